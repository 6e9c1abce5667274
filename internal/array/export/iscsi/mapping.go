package iscsi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
)

// Failpoints: what the kernel's target has is between what it was and what is on
// record.
var (
	fpAfterBackstore = failpoint.New("export.iscsi.after-backstore")
	fpAfterLUN       = failpoint.New("export.iscsi.after-lun")
	fpAfterLink      = failpoint.New("export.iscsi.after-link")
	fpAfterUnmap     = failpoint.New("export.iscsi.after-unmap")
	fpAfterWithdraw  = failpoint.New("export.iscsi.after-withdraw")
)

func (t *Target) acl(initiator string) string { return path.Join(t.tpg(), "acls", initiator) }

// found is a mapping that the kernel has.
type found struct {
	export.Mapping
	luns []string // names of the links in it: identifiers, ours or not
}

func (t *Target) mapped(initiator string) ([]found, error) {
	dir := t.acl(initiator)
	names, err := t.fs.List(dir)
	if err != nil {
		return nil, t.failed("look at exports", initiator, "its mappings cannot be listed", err)
	}
	var out []found
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, "lun_")
		n, err := strconv.ParseUint(digits, 10, 16)
		if !ok || err != nil {
			continue
		}
		f, err := t.foundAt(initiator, uint16(n))
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// mappedAt is mapped at some places only.
func (t *Target) mappedAt(initiator string, places []export.Mapping) ([]found, error) {
	var out []found
	for _, m := range places {
		if m.Initiator != initiator || !t.fs.Exists(t.mapping(m)) {
			continue
		}
		f, err := t.foundAt(initiator, m.Number)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func (t *Target) foundAt(initiator string, number uint16) (found, error) {
	m := export.Mapping{Initiator: initiator, Number: number}
	links, err := t.fs.List(t.mapping(m))
	if err != nil {
		return found{}, t.failed("look at exports", initiator, fmt.Sprintf("lun_%d cannot be listed", number), err)
	}
	wp, _ := t.fs.Read(path.Join(t.mapping(m), "write_protect"))
	m.ReadOnly = wp != "0"
	return found{m, t.links(links)}, nil
}

// mapping is where a mapping is.
func (t *Target) mapping(m export.Mapping) string {
	return path.Join(t.acl(m.Initiator), fmt.Sprintf("lun_%d", m.Number))
}

// links leaves out the kernel's own folders of a mapping.
func (t *Target) links(names []string) []string {
	return slices.DeleteFunc(names, func(s string) bool { return s == "statistics" })
}

// Apply makes what is exported of the LUN what l says.
func (t *Target) Apply(l export.LUN) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.apply(l)
	return err
}

// apply is Apply; it returns what was otherwise.
func (t *Target) apply(l export.LUN) (changed []string, err error) {
	name := l.NAA.String()
	if len(l.Maps) == 0 && !t.fs.Exists(backstore(l.NAA)) {
		return nil, nil
	}
	// A LUN that has no backstore is mapped nowhere: links keep what they lead to.
	// Then only its own places are looked at, and many that are exported at a time
	// take no look at each other's.
	fresh := !t.fs.Exists(backstore(l.NAA))
	look := t.mapped
	if fresh {
		look = func(who string) ([]found, error) { return t.mappedAt(who, l.Maps) }
	}
	initiators, err := t.fs.List(path.Join(t.tpg(), "acls"))
	if err != nil {
		return nil, t.failed("look at exports", t.iqn, "its hosts cannot be listed", err)
	}
	have := map[string]found{} // by initiator
	for _, who := range initiators {
		ms, err := look(who)
		if err != nil {
			return changed, err
		}
		for _, m := range ms {
			here := slices.Contains(m.luns, name)
			i := slices.IndexFunc(l.Maps, func(w export.Mapping) bool { return w.Initiator == who && w.Number == m.Number })
			switch {
			case here && i >= 0 && len(m.luns) == 1:
				have[who] = m
			case here || i >= 0 || len(m.luns) == 0: // the LUN where it should not be, or something else where it should, or nothing
				changed = append(changed, fmt.Sprintf("%s at number %d of %s", cmp.Or(strings.Join(m.luns, ", "), "nothing"), m.Number, who))
				if err := t.unmap(m); err != nil {
					return changed, err
				}
			}
		}
	}
	if len(l.Maps) == 0 {
		if err := fpAfterUnmap.Hit(context.Background()); err != nil {
			return changed, err
		}
		return changed, t.withdraw(l.NAA)
	}
	if err := t.addBackstore(l); err != nil {
		return changed, err
	}
	if err := fpAfterBackstore.Hit(context.Background()); err != nil {
		return changed, err
	}
	at, err := t.addLUN(l.NAA, fresh)
	if err == nil {
		err = fpAfterLUN.Hit(context.Background())
	}
	if err != nil {
		return changed, err
	}
	for _, want := range l.Maps {
		m, ok := have[want.Initiator]
		if ok && m.ReadOnly == want.ReadOnly {
			continue
		}
		changed = append(changed, fmt.Sprintf("%s for %s", name, want.Initiator))
		if err := t.mapLUN(want, at, name, ok); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// mapLUN shows a LUN of the target to an initiator. The kernel makes it
// read-only; it is opened for writing when it is there.
func (t *Target) mapLUN(m export.Mapping, lunDir, name string, there bool) (err error) {
	if !t.fs.Exists(t.acl(m.Initiator)) {
		return t.failed("map LUN", name, "the target does not know "+m.Initiator, nil)
	}
	dir := t.mapping(m)
	if !there {
		if err := t.fs.Mkdir(dir); err != nil {
			return t.failed("map LUN", name, "the kernel's target makes no mapping", err)
		}
		if err := t.fs.Link(lunDir, path.Join(dir, name)); err != nil {
			_ = t.fs.Rmdir(dir)
			return t.failed("map LUN", name, "the kernel's target does not map it", err)
		}
	}
	if err := fpAfterLink.Hit(context.Background()); err != nil {
		return errors.Join(err, t.unmap(found{m, []string{name}}))
	}
	value := "1"
	if !m.ReadOnly {
		value = "0"
	}
	if err := t.fs.Write(path.Join(dir, "write_protect"), value); err != nil {
		if !there {
			_ = t.unmap(found{m, []string{name}})
		}
		return t.failed("map LUN", name, "its write protection cannot be set", err)
	}
	return nil
}

func (t *Target) unmap(m found) error {
	dir := t.mapping(m.Mapping)
	var errs []error
	for _, l := range m.luns {
		errs = append(errs, t.fs.Unlink(path.Join(dir, l)))
	}
	errs = append(errs, t.fs.Rmdir(dir))
	if err := errors.Join(errs...); err != nil {
		return t.failed("unmap LUN", strings.Join(m.luns, ", "), "the kernel's target does not take it away from "+m.Initiator, err)
	}
	return nil
}

// lunOf finds the LUN's place in the target, unless it is known to have none.
func (t *Target) lunOf(n lun.NAA, fresh bool) (dir string, taken map[string]bool, err error) {
	base := path.Join(t.tpg(), "lun")
	names, err := t.fs.List(base)
	if err != nil {
		return "", nil, t.failed("look at exports", t.iqn, "its LUNs cannot be listed", err)
	}
	taken = map[string]bool{}
	for _, name := range names {
		taken[name] = true
		if !fresh && t.fs.Exists(path.Join(base, name, n.String())) {
			dir = path.Join(base, name)
		}
	}
	return dir, taken, nil
}

// addLUN makes the LUN one of the target's and returns its folder.
func (t *Target) addLUN(n lun.NAA, fresh bool) (string, error) {
	dir, taken, err := t.lunOf(n, fresh)
	if dir != "" || err != nil {
		return dir, err
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("lun_%d", i); !taken[name] {
			dir = path.Join(t.tpg(), "lun", name)
			break
		}
	}
	if err := t.fs.Mkdir(dir); err != nil {
		return "", t.failed("export LUN", n.String(), "the kernel's target makes no LUN", err)
	}
	if err := t.waiting(func() error { return t.fs.Link(backstore(n), path.Join(dir, n.String())) }); err != nil {
		_ = t.fs.Rmdir(dir)
		return "", t.failed("export LUN", n.String(), "the kernel's target does not take it", err)
	}
	return dir, nil
}

// waiting is for what the kernel waits for all its processors with (RCU), ten
// milliseconds perhaps, before it is done: others' LUNs go on meanwhile, and many
// wait together. The folder that it happens in is this LUN's already, and still.
func (t *Target) waiting(do func() error) error {
	t.mu.Unlock()
	defer t.mu.Lock()
	return do()
}

// withdraw ends the export of a LUN that nobody is mapped to.
func (t *Target) withdraw(n lun.NAA) error {
	dir, _, err := t.lunOf(n, false)
	if err != nil {
		return err
	}
	if dir != "" {
		if err := errors.Join(t.waiting(func() error { return t.fs.Unlink(path.Join(dir, n.String())) }), t.fs.Rmdir(dir)); err != nil {
			return t.failed("end export", n.String(), "the kernel's target does not let go of it", err)
		}
	}
	if err := fpAfterWithdraw.Hit(context.Background()); err != nil {
		return err
	}
	return t.dropBackstore(n)
}
