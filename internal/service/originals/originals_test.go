package originals

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/host/hide"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const family hide.Family = "6001405aaaaaaaaa"

// machine is a Host whose udev obeys its rules.
type machine struct {
	t        *testing.T
	shown    []lun.Info
	unheard  error
	here     map[string]block.Device
	used     map[string]bool
	admitted map[string]bool
	families map[hide.Family]bool
	seen     []string // by udev, not hidden
	fail     map[string]error
}

func newMachine(t *testing.T) (*machine, *Keeper) {
	c, err := catalog.Open(filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	m := &machine{t: t, here: map[string]block.Device{}, used: map[string]bool{}, admitted: map[string]bool{}, families: map[hide.Family]bool{}, fail: map[string]error{}}
	return m, New(m, c)
}

func (m *machine) Unmasked(context.Context) ([]lun.Info, error) { return m.shown, m.unheard }
func (m *machine) InUse(_ context.Context, d block.Device) bool { return m.used[d.LUN.Name()] }
func (m *machine) Enumerate(context.Context) ([]block.Device, error) {
	return slices.Collect(maps.Values(m.here)), m.fail["Enumerate"]
}

func (m *machine) Rescan(_ context.Context, ls []lun.Info) ([]block.Device, error) {
	var out []block.Device
	for _, l := range ls {
		out = append(out, m.arrive(l))
	}
	return out, m.fail["Rescan"]
}

func (m *machine) Detach(_ context.Context, d block.Device) error {
	if err := m.fail["Detach"]; err != nil {
		return err
	}
	delete(m.here, d.LUN.Name())
	return nil
}

func (m *machine) Admit(_ context.Context, ls []lun.Info) error {
	if err := m.fail["Admit"]; err != nil {
		return err
	}
	for _, l := range ls {
		m.admitted[l.Name()] = true
	}
	return nil
}

func (m *machine) Dismiss(_ context.Context, ls []lun.Info) error {
	for _, l := range ls {
		delete(m.admitted, l.Name())
	}
	return m.fail["Dismiss"]
}

// HideFamily looks at what is mounted, as udev will at the next event.
func (m *machine) HideFamily(_ context.Context, f hide.Family) error {
	m.families[f] = true
	for n, d := range m.here {
		going := d.Loop != nil && d.Loop.Autoclear // of which there is no mount to end
		if m.used[n] && m.hidden(d.LUN) && !going {
			m.t.Errorf("%s is in use and hidden", n)
		}
	}
	return m.fail["HideFamily"]
}

func (m *machine) hidden(l lun.Info) bool {
	for f := range m.families {
		if f.Has(l) && !m.admitted[l.Name()] {
			return true
		}
	}
	return false
}

// arrive is a LUN's first event.
func (m *machine) arrive(l lun.Info) block.Device {
	d := block.Device{Name: fmt.Sprintf("loop%d", len(m.here)), LUN: l}
	m.here[l.Name()] = d
	if !m.hidden(l) {
		m.seen = append(m.seen, l.Name())
	}
	return d
}

// reboot forgets devices and rules.
func (m *machine) reboot() {
	clear(m.here)
	clear(m.used)
	clear(m.admitted)
	clear(m.families)
	m.seen = nil
}

func numbered(n byte) lun.Info {
	var id lun.NAA
	if _, err := hex.Decode(id[:8], []byte(family)); err != nil {
		panic(err)
	}
	id[15] = n
	return lun.Info{Version: lun.InfoVersion, StorageIDs: []lun.StorageID{id.StorageID()}}
}

func naaOf(l lun.Info) lun.NAA { n, _ := l.NAA(); return n }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnknownIsHidden: what comes by itself is out of sight, what was let
// through is not, after a reboot as well.
func TestUnknownIsHidden(t *testing.T) {
	m, k := newMachine(t)
	mine, stray := numbered(1), numbered(2)
	must(t, k.Cover(t.Context())) // no array is joined yet
	must(t, k.Cover(t.Context(), family))
	m.arrive(stray)
	if len(m.seen) != 0 {
		t.Errorf("udev saw %v", m.seen)
	}
	m.shown = []lun.Info{mine}
	ds, err := k.Rescan(t.Context())
	must(t, err)
	if len(ds) != 1 || !slices.Equal(m.seen, []string{mine.Name()}) {
		t.Errorf("attached %v, seen %v", ds, m.seen)
	}

	m.reboot()
	must(t, k.Cover(t.Context(), family))
	m.arrive(stray)
	m.arrive(mine) // an initiator that logs in by itself
	if !slices.Equal(m.seen, []string{mine.Name()}) {
		t.Errorf("after a reboot udev saw %v", m.seen)
	}

	must(t, k.Detach(t.Context(), naaOf(mine)))
	m.seen = nil
	m.arrive(mine)
	if len(m.seen) != 0 {
		t.Errorf("after detach udev saw %v", m.seen)
	}
}

// TestUsedIsNotHidden: a mounted disk of an array that is joined only now, or
// whose record was lost, stays in sight; a copy does not.
func TestUsedIsNotHidden(t *testing.T) {
	m, k := newMachine(t)
	mounted, idle, copied := numbered(1), numbered(2), numbered(3)
	for _, l := range []lun.Info{mounted, idle, copied} {
		m.arrive(l)
	}
	m.used[mounted.Name()], m.used[copied.Name()] = true, true
	must(t, k.Catalog.Update(t.Context(), func(tx *catalog.Tx) error {
		return tx.PutLUN(catalog.LUN{Name: copied.Name(), Info: copied, State: catalog.LUNImported})
	}))
	m.used[copied.Name()] = false // an exposed copy: hidden already, by its own rule
	must(t, k.Cover(t.Context(), family))
	if m.hidden(mounted) || !m.hidden(idle) || !m.hidden(copied) {
		t.Errorf("admitted: %v", m.admitted)
	}
	m.reboot()
	must(t, k.Cover(t.Context(), family))
	if m.hidden(mounted) {
		t.Error("the mounted disk was not recorded")
	}
	// What is still read of a copy that was deleted by force is no original.
	left := numbered(4)
	d := m.arrive(left)
	d.Loop = &block.Loop{ReadOnly: true, Autoclear: true}
	m.here[left.Name()], m.used[left.Name()] = d, true
	must(t, k.Cover(t.Context(), family))
	if !m.hidden(left) {
		t.Error("what is left of a deleted copy was let through")
	}
	if err := k.Detach(t.Context(), naaOf(copied)); !errors.Is(err, vss.VSS_E_BAD_STATE) {
		t.Errorf("detach of a copy: %v", err)
	}
}

// TestRescanNamed: only what an array shows as an original is let through.
func TestRescanNamed(t *testing.T) {
	m, k := newMachine(t)
	must(t, k.Cover(t.Context(), family))
	a, b, copied := numbered(1), numbered(2), numbered(3)
	m.shown = []lun.Info{a, b}
	if ds, err := k.Rescan(t.Context(), naaOf(a), naaOf(copied)); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || len(ds) != 0 || len(m.admitted) != 0 {
		t.Errorf("one of two is not shown: %v, %v, admitted %v", ds, err, m.admitted)
	}
	away := errors.New("array away")
	m.unheard = away
	if _, err := k.Rescan(t.Context(), naaOf(copied)); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) || !errors.Is(err, away) {
		t.Errorf("the array that may have it is away: %v", err)
	}
	if ds, err := k.Rescan(t.Context(), naaOf(a)); err != nil || len(ds) != 1 {
		t.Errorf("the other array has it: %v, %v", ds, err)
	}
	if ds, err := k.Rescan(t.Context()); !errors.Is(err, away) || len(ds) != 2 {
		t.Errorf("what the others show comes all the same: %v, %v", ds, err)
	}
	if !m.admitted[a.Name()] || !m.admitted[b.Name()] {
		t.Errorf("admitted: %v", m.admitted)
	}
}

// TestGone: an original that no array shows is forgotten, but not while an
// array is silent, and not while its disk is here.
func TestGone(t *testing.T) {
	m, k := newMachine(t)
	must(t, k.Cover(t.Context(), family))
	a := numbered(1)
	m.shown = []lun.Info{a}
	_, err := k.Rescan(t.Context())
	must(t, err)
	m.shown = nil
	for _, step := range []struct {
		name string
		set  func()
		kept bool
	}{
		{"its disk is here", func() {}, true},
		{"the array is silent", func() { clear(m.here); m.unheard = errors.New("away") }, true},
		{"it is gone", func() { m.unheard = nil }, false},
	} {
		step.set()
		_, _ = k.Rescan(t.Context())
		if m.admitted[a.Name()] != step.kept {
			t.Errorf("%s: admitted %v", step.name, m.admitted)
		}
	}
	if err := k.Detach(t.Context(), naaOf(a)); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("detach of what is not known: %v", err)
	}
}

// TestFailures: nothing is attached that could not be let through, and no array
// is hidden before what is used was let through.
func TestFailures(t *testing.T) {
	m, k := newMachine(t)
	a := numbered(1)
	m.shown = []lun.Info{a}
	no := errors.New("no")
	m.fail["Admit"] = no
	if _, err := k.Rescan(t.Context()); !errors.Is(err, no) || len(m.here) != 0 {
		t.Errorf("attached without a rule: %v, %v", m.here, err)
	}
	if err := k.Cover(t.Context(), family); !errors.Is(err, no) || len(m.families) != 0 {
		t.Errorf("hid an array: %v, %v", m.families, err)
	}
	m.fail["Admit"] = nil
	_, err := k.Rescan(t.Context())
	must(t, err)
	m.fail["Detach"] = no
	if err := k.Detach(t.Context(), naaOf(a)); !errors.Is(err, no) || !m.admitted[a.Name()] {
		t.Errorf("dismissed though it is here: %v", err)
	}
	m.fail["Detach"], m.fail["Dismiss"] = nil, no
	if err := k.Detach(t.Context(), naaOf(a)); !errors.Is(err, no) {
		t.Errorf("detach: %v", err)
	}
	m.fail["Dismiss"] = nil
	must(t, k.Detach(t.Context(), naaOf(a))) // not here any more, but on record
	m.reboot()
	must(t, k.Cover(t.Context(), family))
	if m.admitted[a.Name()] {
		t.Error("the record is left")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k.turn <- struct{}{} // another's turn
	if _, err := k.Rescan(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting: %v", err)
	}
}
