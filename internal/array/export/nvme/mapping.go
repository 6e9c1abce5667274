package nvme

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
)

// Failpoints: what the kernel's target has is between what it was and what is on
// record.
var (
	fpAfterDevice    = failpoint.New("export.nvme.after-device")
	fpAfterNamespace = failpoint.New("export.nvme.after-namespace")
	fpAfterUnmap     = failpoint.New("export.nvme.after-unmap")
)

// namespace is one that the kernel has.
type namespace struct {
	subsystem string
	number    uint64
	ours      bool // it is a LUN of the array
	lun       lun.NAA
	device    string
	enabled   bool
}

func (n namespace) dir() string {
	return path.Join(subsystemDir(n.subsystem), "namespaces", strconv.FormatUint(n.number, 10))
}

func (n namespace) title() string {
	if n.ours {
		return n.lun.String()
	}
	return fmt.Sprintf("%s (namespace %d)", n.device, n.number)
}

func (t *Target) namespaces() (out []namespace, err error) {
	names, err := t.subsystems()
	if err != nil {
		return nil, err
	}
	for _, s := range names {
		more, err := t.namespacesOf(s)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

func (t *Target) namespacesOf(subsystem string) (out []namespace, err error) {
	names, err := t.fs.List(path.Join(subsystemDir(subsystem), "namespaces"))
	if err != nil {
		return nil, t.failed("look at exports", subsystem, "its namespaces cannot be listed", err)
	}
	for _, name := range names {
		number, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			continue
		}
		n := namespace{subsystem: subsystem, number: number}
		read := func(file string) string {
			s, _ := t.fs.Read(path.Join(n.dir(), file))
			return s
		}
		n.device, n.enabled = read("device_path"), read("enable") == "1"
		nguid, ok := identity.ParseGUID(read("device_nguid"))
		uuid, ok2 := identity.ParseGUID(read("device_uuid"))
		if ok && ok2 {
			n.lun, n.ours = identity.OfNamespace(nguid, uuid)
			n.ours = n.ours && t.owns(n.lun)
		}
		out = append(out, n)
	}
	return out, nil
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
	all, err := t.namespaces()
	if err != nil {
		return nil, err
	}
	have := map[string]bool{} // by initiator
	for _, n := range all {
		who := t.initiator(n.subsystem)
		i := slices.IndexFunc(l.Maps, func(m export.Mapping) bool { return m.Initiator == who && uint64(m.Number) == n.number })
		here := n.ours && n.lun == l.NAA
		switch {
		case here && i >= 0 && n.enabled && t.back.Is(n.device, l, l.Maps[i].ReadOnly):
			have[who] = true
		case here || i >= 0: // the LUN where or as it should not be, or something else where it should
			changed = append(changed, fmt.Sprintf("%s at number %d of %s", n.title(), n.number, who))
			if err := t.unmap(n); err != nil {
				return changed, err
			}
		}
	}
	if len(l.Maps) == 0 {
		if err := fpAfterUnmap.Hit(context.Background()); err != nil {
			return changed, err
		}
		return changed, t.back.Drop(l.NAA)
	}
	for _, m := range l.Maps {
		if have[m.Initiator] {
			continue
		}
		changed = append(changed, fmt.Sprintf("%s for %s", l.NAA, m.Initiator))
		if err := t.mapLUN(m, l); err != nil {
			// A device that nobody has is not kept for the next attempt.
			return changed, errors.Join(err, t.dropUnused(l.NAA))
		}
	}
	return changed, nil
}

// mapLUN shows a LUN to a host. It has its names before it is enabled: from
// then on it may be asked for them.
func (t *Target) mapLUN(m export.Mapping, l export.LUN) (err error) {
	name := l.NAA.String()
	n := namespace{subsystem: t.subsystem(m.Initiator), number: uint64(m.Number)}
	switch {
	case !t.fs.Exists(subsystemDir(n.subsystem)):
		return t.failed("map LUN", name, "the target does not know "+m.Initiator, nil)
	case n.number == 0 || n.number > MaxNumber:
		return t.failed("map LUN", name, fmt.Sprintf("the kernel's target has namespaces from 1 to %d, not %d", MaxNumber, n.number), nil)
	}
	device, err := t.back.Make(l, m.ReadOnly)
	if err == nil {
		err = fpAfterDevice.Hit(context.Background())
	}
	if err != nil {
		return err
	}
	if err := t.fs.Mkdir(n.dir()); err != nil {
		return t.failed("map LUN", name, "the kernel's target makes no namespace", err)
	}
	if err := fpAfterNamespace.Hit(context.Background()); err != nil {
		_ = t.fs.Rmdir(n.dir())
		return err
	}
	for _, w := range []struct{ file, value string }{
		{"device_path", device},
		{"device_nguid", identity.GUIDText(identity.NGUID(l.NAA))},
		{"device_uuid", identity.GUIDText(identity.UUID(l.NAA))},
		{"enable", "1"},
	} {
		if err := t.fs.Write(path.Join(n.dir(), w.file), w.value); err != nil {
			_ = t.fs.Rmdir(n.dir())
			return t.failed("map LUN", name, "the kernel's target does not take its "+w.file, err)
		}
	}
	return nil
}

// unmap takes a namespace away; its host is told. The kernel waits for what is
// being written.
func (t *Target) unmap(n namespace) error {
	var err error
	if n.enabled {
		err = t.fs.Write(path.Join(n.dir(), "enable"), "0")
	}
	if err = errors.Join(err, t.fs.Rmdir(n.dir())); err != nil {
		return t.failed("unmap LUN", n.title(), "the kernel's target does not take it away from "+t.initiator(n.subsystem), err)
	}
	return nil
}

// dropUnused lets go of a LUN's device if no namespace has it any more.
func (t *Target) dropUnused(n lun.NAA) error {
	all, err := t.namespaces()
	if err != nil || slices.ContainsFunc(all, func(o namespace) bool { return o.ours && o.lun == n }) {
		return err
	}
	return t.back.Drop(n)
}
