package iscsi

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/configfs"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Root is where configfs is.
const Root = configfs.Root

// Authority is who names Umbra's targets and initiators.
const Authority = "iqn.2026-01.io.umbra"

// InitiatorName is the iSCSI name of a host.
func InitiatorName(host string) string { return Authority + ":" + host }

// TargetName is the iSCSI name of an array.
func TargetName(id vss.ID) string { return Authority + ":array." + id.Bare() }

// Target is an array's target in the kernel. It is safe for concurrent use;
// calls wait for the kernel, which may wait for commands under way.
type Target struct {
	mu      sync.Mutex
	fs      configfs.Tree
	iqn     string
	prefix  string
	portals []string
}

// ParsePortal checks the address of a portal and returns its one spelling.
func ParsePortal(s string) (string, error) { return export.ParsePortal(s, "192.0.2.1:3260") }

// Open finds the kernel's target and returns the array's, which Reconcile sets
// up. prefix is how the array's LUNs are called; root is [Root].
// VSS_E_NOT_SUPPORTED where the kernel has no target.
func Open(root string, array vss.ID, prefix string, portals []string) (*Target, error) {
	var checked []string
	for _, p := range portals {
		p, err := ParsePortal(p)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(checked, p) {
			checked = append(checked, p)
		}
	}
	base := configfs.FS(filepath.Join(root, "target"))
	if !base.Exists("core") && root == Root {
		// Best effort; what counts is whether the folder is there afterwards. The
		// service may not load modules itself.
		_, _, _ = underway.Run(context.Background(), modprobeTime, nil, "modprobe", "-a", "-q", "target_core_mod", "target_core_file", "iscsi_target_mod")
	}
	t := &Target{fs: base, iqn: TargetName(array), prefix: prefix, portals: checked}
	if err := t.supported(base); err != nil {
		return nil, err
	}
	return t, nil
}

// modprobeTime is long for the loading of modules.
const modprobeTime = time.Minute

func (t *Target) supported(base configfs.FS) error {
	if !base.Exists("core") {
		return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "export over iSCSI", Object: string(base), Reason: "this kernel has no SCSI target (LIO), or it is not loaded, or configfs is not mounted",
			Remedy: "Run modprobe -a target_core_mod target_core_file iscsi_target_mod as root, and mount configfs at " + Root + "; or serve hosts on this machine only, without --iscsi-portal"}
	}
	// Making the folder loads the module.
	if err := base.Mkdir("iscsi"); err != nil {
		return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "export over iSCSI", Object: string(base), Reason: "this kernel has no iSCSI target",
			Remedy: "Run modprobe iscsi_target_mod as root; or serve hosts on this machine only, without --iscsi-portal", Err: err}
	}
	return nil
}

// Present reports whether the kernel has a target of the array, say from an
// earlier process.
func Present(root string, array vss.ID) bool {
	_, err := os.Lstat(filepath.Join(root, "target/iscsi", TargetName(array)))
	return err == nil
}

// Name is the target's iSCSI name.
func (t *Target) Name() string { return t.iqn }

// Portals are the addresses it is reached at.
func (t *Target) Portals() []string { return t.portals }

// Reach is the same for all hosts.
func (t *Target) Reach(export.Peer) (target string, portals []string) { return t.iqn, t.portals }

func (t *Target) dir() string { return path.Join("iscsi", t.iqn) }
func (t *Target) tpg() string { return path.Join(t.dir(), "tpgt_1") }

func (t *Target) owns(n lun.NAA) bool {
	p, ok := identity.PrefixOf(n)
	return ok && p == t.prefix
}

// Reconcile makes the target what the database says: these hosts, these LUNs
// mapped, the portals that Open was given. It returns what was different, which
// is nothing for a target that was not there.
func (t *Target) Reconcile(peers []export.Peer, luns []export.LUN) (differences []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := !t.fs.Exists(t.tpg())
	for _, d := range []string{t.dir(), t.tpg()} {
		if err := t.fs.Mkdir(d); err != nil {
			return nil, t.failed("export over iSCSI", t.iqn, "its target cannot be made", err)
		}
	}
	for _, a := range []struct{ name, value string }{
		{"authentication", "1"},          // CHAP, always
		{"generate_node_acls", "0"},      // nobody without an ACL
		{"demo_mode_discovery", "0"},     // nor is anybody else told that it exists
		{"prod_mode_write_protect", "1"}, // mappings are born read-only
	} {
		if err := t.set(path.Join(t.tpg(), "attrib", a.name), a.value, true); err != nil {
			return nil, err
		}
	}
	differ := func(s string) {
		if !fresh {
			differences = append(differences, s)
		}
	}
	here, err := t.fs.List(path.Join(t.tpg(), "acls"))
	if err != nil {
		return differences, t.failed("look at exports", t.iqn, "its hosts cannot be listed", err)
	}
	for _, who := range here {
		if !slices.ContainsFunc(peers, func(p export.Peer) bool { return p.Initiator == who }) {
			differ("the target admitted " + who + ", which is no enrolled host; it is revoked")
			if err := t.revoke(who); err != nil {
				return differences, err
			}
		}
	}
	for _, p := range peers {
		if !slices.Contains(here, p.Initiator) {
			differ("the target did not know " + p.Initiator + "; it is admitted")
		}
		changed, err := t.admit(p)
		if err != nil {
			return differences, err
		}
		if changed && slices.Contains(here, p.Initiator) {
			differ("the target had other secrets for " + p.Initiator + "; they are put right")
		}
	}
	known := map[lun.NAA]bool{}
	for _, l := range luns {
		known[l.NAA] = true
	}
	stores, err := t.backstores()
	if err != nil {
		return differences, err
	}
	for _, n := range stores {
		if !known[n] {
			luns = append(luns, export.LUN{NAA: n})
			differ(n.String() + " was exported to nobody who has it attached; its export is ended")
		}
	}
	for _, l := range luns {
		changed, err := t.apply(l)
		for _, c := range changed {
			differ("mapping mended: " + c)
		}
		if err != nil {
			// One LUN whose file is gone, say, keeps no other from its host.
			differences = append(differences, err.Error())
		}
	}
	more, err := t.listen()
	if err != nil {
		return differences, err
	}
	for _, m := range more {
		differ(m)
	}
	return differences, t.set(path.Join(t.tpg(), "enable"), "1", true)
}

// listen opens the portals and closes others.
func (t *Target) listen() (differences []string, err error) {
	dir := path.Join(t.tpg(), "np")
	have, err := t.fs.List(dir)
	if err != nil {
		return nil, t.failed("look at exports", t.iqn, "its portals cannot be listed", err)
	}
	for _, p := range have {
		if !slices.Contains(t.portals, p) {
			differences = append(differences, "portal "+p+" is closed")
			if err := t.fs.Rmdir(path.Join(dir, p)); err != nil {
				return differences, t.failed("close portal", p, "the kernel refused", err)
			}
		}
	}
	for _, p := range t.portals {
		if slices.Contains(have, p) {
			continue
		}
		differences = append(differences, "portal "+p+" is opened")
		if err := t.fs.Mkdir(path.Join(dir, p)); err != nil {
			return differences, &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: "open portal", Object: p, Reason: "the address cannot be used",
				Remedy: "Stop what uses it, or give an address of this machine with --iscsi-portal", Err: err}
		}
	}
	return differences, nil
}

// set writes an attribute that says something else. The kernel refuses some
// writes while hosts are logged in, even those that change nothing.
func (t *Target) set(file, value string, shown bool) error {
	if now, err := t.fs.Read(file); err == nil && now == value {
		return nil
	}
	if err := t.fs.Write(file, value); err != nil {
		object := path.Base(file)
		if shown {
			object += "=" + value
		}
		return t.failed("export over iSCSI", object, "the kernel's target refused", err)
	}
	return nil
}

// Admit lets an initiator log in with its secrets, and only with them. A
// session it has stays.
func (t *Target) Admit(p export.Peer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.admit(p)
	return err
}

func (t *Target) admit(p export.Peer) (changed bool, err error) {
	dir := t.acl(p.Initiator)
	if err := t.fs.Mkdir(dir); err != nil {
		return false, t.failed("admit host", p.Initiator, "the kernel's target does not take it", err)
	}
	for _, w := range []struct{ file, value string }{
		{"userid", p.Initiates.User}, {"password", p.Initiates.Password},
		{"userid_mutual", p.Answers.User}, {"password_mutual", p.Answers.Password},
	} {
		// Without a newline: the kernel would take it for part of the secret.
		file := path.Join(dir, "auth", w.file)
		if now, err := t.fs.Read(file); err == nil && now == w.value {
			continue
		}
		changed = true
		if err := t.set(file, w.value, false); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// Revoke takes every LUN away from an initiator, ends its session and forgets
// it.
func (t *Target) Revoke(initiator string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revoke(initiator)
}

func (t *Target) revoke(initiator string) error {
	ms, err := t.mapped(initiator)
	if err != nil {
		return err
	}
	for _, m := range ms {
		if err := t.unmap(m); err != nil {
			return err
		}
	}
	// With the folder the kernel ends the sessions.
	if err := t.fs.Rmdir(t.acl(initiator)); err != nil {
		return t.failed("revoke host", initiator, "the kernel's target does not forget it", err)
	}
	return nil
}

// Connected reports whether the initiator has a session.
func (t *Target) Connected(initiator string) (bool, error) {
	s, err := t.fs.Read(path.Join(t.acl(initiator), "info"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, t.failed("look at sessions", initiator, "the kernel's target does not tell them", err)
	}
	return s != "" && !strings.Contains(s, "No active iSCSI Session"), nil
}

// Teardown takes the target out of the kernel, sessions first.
func (t *Target) Teardown() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fs.Exists(t.tpg()) {
		if err := t.set(path.Join(t.tpg(), "enable"), "0", true); err != nil {
			return err
		}
		initiators, err := t.fs.List(path.Join(t.tpg(), "acls"))
		if err != nil {
			return t.failed("end export", t.iqn, "its hosts cannot be listed", err)
		}
		for _, who := range initiators {
			if err := t.revoke(who); err != nil {
				return err
			}
		}
	}
	stores, err := t.backstores()
	if err != nil {
		return err
	}
	for _, n := range stores {
		if err := t.withdraw(n); err != nil {
			return err
		}
	}
	portals, err := t.fs.List(path.Join(t.tpg(), "np"))
	if err != nil {
		return t.failed("end export", t.iqn, "its portals cannot be listed", err)
	}
	for i := range portals {
		portals[i] = path.Join(t.tpg(), "np", portals[i])
	}
	for _, d := range append(portals, t.tpg(), t.dir()) {
		if err := t.fs.Rmdir(d); err != nil {
			return t.failed("end export", d, "the kernel's target does not let go of it", err)
		}
	}
	_ = t.fs.Rmdir(hba) // if it was the last one's
	return nil
}
