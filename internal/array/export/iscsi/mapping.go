package iscsi

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/lun"
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
		links, err := t.fs.List(path.Join(dir, name))
		if err != nil {
			return nil, t.failed("look at exports", initiator, name+" cannot be listed", err)
		}
		wp, _ := t.fs.Read(path.Join(dir, name, "write_protect"))
		out = append(out, found{export.Mapping{Initiator: initiator, Number: uint16(n), ReadOnly: wp != "0"}, t.links(links)})
	}
	return out, nil
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
	initiators, err := t.fs.List(path.Join(t.tpg(), "acls"))
	if err != nil {
		return nil, t.failed("look at exports", t.iqn, "its hosts cannot be listed", err)
	}
	have := map[string]found{} // by initiator
	for _, who := range initiators {
		ms, err := t.mapped(who)
		if err != nil {
			return changed, err
		}
		for _, m := range ms {
			here := slices.Contains(m.luns, name)
			i := slices.IndexFunc(l.Maps, func(w export.Mapping) bool { return w.Initiator == who && w.Number == m.Number })
			switch {
			case here && i >= 0 && len(m.luns) == 1:
				have[who] = m
			case here || i >= 0: // the LUN where it should not be, or something else where it should
				changed = append(changed, fmt.Sprintf("%s at number %d of %s", strings.Join(m.luns, ", "), m.Number, who))
				if err := t.unmap(m); err != nil {
					return changed, err
				}
			}
		}
	}
	if len(l.Maps) == 0 {
		return changed, t.withdraw(l.NAA)
	}
	if err := t.addBackstore(l); err != nil {
		return changed, err
	}
	at, err := t.addLUN(l.NAA)
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
	dir := path.Join(t.acl(m.Initiator), fmt.Sprintf("lun_%d", m.Number))
	if !there {
		if err := t.fs.Mkdir(dir); err != nil {
			return t.failed("map LUN", name, "the kernel's target makes no mapping", err)
		}
		if err := t.fs.Link(lunDir, path.Join(dir, name)); err != nil {
			_ = t.fs.Rmdir(dir)
			return t.failed("map LUN", name, "the kernel's target does not map it", err)
		}
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
	dir := path.Join(t.acl(m.Initiator), fmt.Sprintf("lun_%d", m.Number))
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

// lunOf finds the LUN's place in the target.
func (t *Target) lunOf(n lun.NAA) (dir string, taken map[string]bool, err error) {
	base := path.Join(t.tpg(), "lun")
	names, err := t.fs.List(base)
	if err != nil {
		return "", nil, t.failed("look at exports", t.iqn, "its LUNs cannot be listed", err)
	}
	taken = map[string]bool{}
	for _, name := range names {
		taken[name] = true
		if t.fs.Exists(path.Join(base, name, n.String())) {
			dir = path.Join(base, name)
		}
	}
	return dir, taken, nil
}

// addLUN makes the LUN one of the target's and returns its folder.
func (t *Target) addLUN(n lun.NAA) (string, error) {
	dir, taken, err := t.lunOf(n)
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
	if err := t.fs.Link(backstore(n), path.Join(dir, n.String())); err != nil {
		_ = t.fs.Rmdir(dir)
		return "", t.failed("export LUN", n.String(), "the kernel's target does not take it", err)
	}
	return dir, nil
}

// withdraw ends the export of a LUN that nobody is mapped to.
func (t *Target) withdraw(n lun.NAA) error {
	dir, _, err := t.lunOf(n)
	if err != nil {
		return err
	}
	if dir != "" {
		if err := errors.Join(t.fs.Unlink(path.Join(dir, n.String())), t.fs.Rmdir(dir)); err != nil {
			return t.failed("end export", n.String(), "the kernel's target does not let go of it", err)
		}
	}
	return t.dropBackstore(n)
}
