package nvme

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/configfs"
	"github.com/umbra-vss/umbra/internal/array/export/nvme/dhchap"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Authority is who names Umbra's hosts and subsystems.
const Authority = "nqn.2026-01.io.umbra"

// HostName is the NVMe name (NQN) of a host.
func HostName(host string) string { return Authority + ":" + host }

func subsystemsOf(array vss.ID) string { return Authority + ":array." + array.Bare() + "." }

// SubsystemName is the NQN of what an array shows to a host.
func SubsystemName(array vss.ID, host string) string { return subsystemsOf(array) + host }

// Ports of ours have numbers from here on, unlike those that other tools count
// from one.
const (
	firstPort = 7480
	lastPort  = 7499
)

// MaxNumber is the highest number that a namespace can have.
const MaxNumber = 1024

// Target is what an array exports through the kernel's target. It is safe for
// concurrent use; calls wait for the kernel, which may wait for commands under
// way.
type Target struct {
	mu      sync.Mutex
	fs      configfs.Tree
	back    backings
	own     string // how its subsystems' names begin
	serial  string // what they say
	prefix  string // of its LUNs
	portals []string
	settle  time.Duration // how long a host is given to hear that its disks are gone
	talking func(portal string) (bool, error)
}

// Open finds the kernel's target and returns the array's part of it, which
// Reconcile sets up. prefix is how the array's LUNs are called; root is
// [configfs.Root]. VSS_E_NOT_SUPPORTED where the kernel has no target.
func Open(root string, array vss.ID, prefix string, portals []string) (*Target, error) {
	var checked []string
	for _, p := range portals {
		p, err := parsePortal(p)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(checked, p) {
			checked = append(checked, p)
		}
	}
	if root == configfs.Root {
		// Best effort; what counts is whether the folder is there afterwards. The
		// service may not load modules itself.
		_, _, _ = underway.Run(context.Background(), modprobeTime, nil, "modprobe", "-a", "-q", "nvmet", "nvmet_tcp", "loop", "dm_mod")
	}
	base := configfs.FS(filepath.Join(root, "nvmet"))
	if !base.Exists("subsystems") {
		return nil, &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: "export over NVMe/TCP", Object: string(base), Reason: "this kernel has no NVMe target, or it is not loaded, or configfs is not mounted",
			Remedy: "Run modprobe -a nvmet nvmet_tcp loop dm_mod as root, and mount configfs at " + configfs.Root + "; or start the array without --nvme-portal"}
	}
	return &Target{fs: base, back: newDevices(), own: subsystemsOf(array), serial: strings.ReplaceAll(array.Bare(), "-", "")[:20], prefix: prefix, portals: checked,
		settle: 300 * time.Millisecond, talking: talking}, nil
}

// modprobeTime is long for the loading of modules.
const modprobeTime = time.Minute

// parsePortal checks an address and port that hosts can reach, and returns its
// one spelling.
func parsePortal(s string) (string, error) { return export.ParsePortal(s, "192.0.2.1:4420") }

// Present reports whether the kernel has something of the array, say from an
// earlier process.
func Present(root string, array vss.ID) bool {
	names, _ := configfs.FS(filepath.Join(root, "nvmet")).List("subsystems")
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, subsystemsOf(array)) })
}

// Portals are the addresses it is reached at.
func (t *Target) Portals() []string { return t.portals }

// Reach is what a host connects to, and where.
func (t *Target) Reach(p export.Peer) (target string, portals []string) {
	return t.subsystem(p.Initiator), t.portals
}

// subsystem is the name of an initiator's subsystem.
func (t *Target) subsystem(initiator string) string {
	return t.own + strings.TrimPrefix(initiator, Authority+":")
}

func (t *Target) initiator(subsystem string) string {
	return Authority + ":" + strings.TrimPrefix(subsystem, t.own)
}

func subsystemDir(name string) string { return path.Join("subsystems", name) }
func hostDir(initiator string) string { return path.Join("hosts", initiator) }

func (t *Target) owns(n lun.NAA) bool {
	p, ok := identity.PrefixOf(n)
	return ok && p == t.prefix
}

func (t *Target) failed(op, object, reason string, err error) error {
	return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: object, Reason: reason,
		Remedy: "Look at the kernel log of the array's machine, and whether another tool (nvmetcli) changes the array's subsystems", Err: err}
}

// subsystems are the array's.
func (t *Target) subsystems() ([]string, error) {
	names, err := t.fs.List("subsystems")
	if err != nil {
		return nil, t.failed("look at exports", t.own, "the kernel's subsystems cannot be listed", err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, t.own) }), nil
}

// Reconcile makes the exports what the database says: these hosts, these LUNs,
// the portals that Open was given. It returns what was different, which is
// nothing for an array of which the kernel has nothing.
func (t *Target) Reconcile(peers []export.Peer, luns []export.LUN) (differences []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	here, err := t.subsystems()
	if err != nil {
		return nil, err
	}
	open, err := t.ports()
	if err != nil {
		return nil, err
	}
	fresh := len(here) == 0 && len(open) == 0
	differ := func(format string, args ...any) {
		if !fresh {
			differences = append(differences, fmt.Sprintf(format, args...))
		}
	}
	if err := t.back.Hide(t.prefix); err != nil {
		return nil, err
	}
	for _, s := range here {
		if who := t.initiator(s); !slices.ContainsFunc(peers, func(p export.Peer) bool { return p.Initiator == who }) {
			differ("the target admitted %s, which is no enrolled host; it is revoked", who)
			if err := t.revoke(who); err != nil {
				return differences, err
			}
		}
	}
	for _, p := range peers {
		known := slices.Contains(here, t.subsystem(p.Initiator))
		if !known {
			differ("the target did not know %s; it is admitted", p.Initiator)
		}
		changed, err := t.admit(p)
		if err != nil {
			return differences, err
		}
		for _, c := range changed {
			if known {
				differ("%s; it is put right", c)
			}
		}
	}
	strays, err := t.strays(luns)
	if err != nil {
		return differences, err
	}
	for _, s := range strays {
		differ("%s", s)
	}
	for _, l := range luns {
		changed, err := t.apply(l)
		for _, c := range changed {
			differ("namespace mended: %s", c)
		}
		if err != nil {
			// One LUN whose file is gone, say, keeps no other from its host.
			differences = append(differences, err.Error())
		}
	}
	more, err := t.listen()
	for _, m := range more {
		differ("%s", m)
	}
	return differences, err
}

// strays ends exports that no LUN of the database explains.
func (t *Target) strays(luns []export.LUN) (differences []string, err error) {
	known := map[lun.NAA]bool{}
	for _, l := range luns {
		known[l.NAA] = true
	}
	all, err := t.namespaces()
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		if !n.ours || !known[n.lun] {
			differences = append(differences, fmt.Sprintf("%s was exported to %s, which does not have it attached; its export is ended", n.title(), t.initiator(n.subsystem)))
			if err := t.unmap(n); err != nil {
				return differences, err
			}
		}
	}
	kept, err := t.back.All()
	if err != nil {
		return differences, t.failed("look at exports", t.own, "the devices beneath them cannot be listed", err)
	}
	for _, n := range kept {
		if t.owns(n) && !known[n] {
			// No difference to tell: a process that died between two steps leaves it.
			if err := t.back.Drop(n); err != nil {
				return differences, err
			}
		}
	}
	return differences, nil
}

// Admit lets a host connect with its secrets, and only with them where the
// kernel can ask for them. A session it has stays.
func (t *Target) Admit(p export.Peer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.admit(p); err != nil {
		return err
	}
	_, err := t.listen()
	return err
}

// admit returns what was otherwise than it should be.
func (t *Target) admit(p export.Peer) (changed []string, err error) {
	name := t.subsystem(p.Initiator)
	dir := subsystemDir(name)
	for _, d := range []string{dir, hostDir(p.Initiator)} {
		if err := t.fs.Mkdir(d); err != nil {
			return changed, t.failed("admit host", p.Initiator, "the kernel's target does not take it", err)
		}
	}
	for _, a := range []struct {
		file, value string
		told        bool
	}{
		{"attr_allow_any_host", "0", true},
		{"attr_model", identity.Vendor + " " + identity.Product, false},
		{"attr_serial", t.serial, false},
	} {
		file := path.Join(dir, a.file)
		if now, err := t.fs.Read(file); err == nil && now == a.value {
			continue
		}
		if a.told {
			changed = append(changed, "the subsystem of "+p.Initiator+" let everybody in")
		}
		if err := t.fs.Write(file, a.value); err != nil {
			return changed, t.failed("admit host", p.Initiator, "the kernel's target does not take "+a.file, err)
		}
	}
	other, err := t.secrets(p)
	if err != nil {
		return changed, err
	}
	if other {
		changed = append(changed, "the target had other secrets for "+p.Initiator)
	}
	allowed, err := t.fs.List(path.Join(dir, "allowed_hosts"))
	if err != nil {
		return changed, t.failed("admit host", p.Initiator, "who may connect cannot be listed", err)
	}
	for _, who := range allowed {
		if who != p.Initiator {
			changed = append(changed, who+" could see what is "+p.Initiator+"'s")
			if err := t.fs.Unlink(path.Join(dir, "allowed_hosts", who)); err != nil {
				return changed, t.failed("admit host", p.Initiator, "the kernel's target does not shut out "+who, err)
			}
			// What it has connected stays connected otherwise.
			if err := t.disconnect(name); err != nil {
				return changed, err
			}
		}
	}
	if err := t.fs.Link(hostDir(p.Initiator), path.Join(dir, "allowed_hosts", p.Initiator)); err != nil {
		return changed, t.failed("admit host", p.Initiator, "the kernel's target does not allow it", err)
	}
	return changed, nil
}

// secrets gives the kernel a host's, where it can ask for them.
func (t *Target) secrets(p export.Peer) (changed bool, err error) {
	for _, w := range []struct{ file, password string }{{"dhchap_key", p.Initiates.Password}, {"dhchap_ctrl_key", p.Answers.Password}} {
		file := path.Join(hostDir(p.Initiator), w.file)
		if w.password == "" || !t.fs.Exists(file) {
			continue // a kernel without: the host's name alone decides
		}
		key := dhchap.Key(w.password)
		if now, err := t.fs.Read(file); err == nil && now == key {
			continue
		}
		changed = true
		if err := t.fs.Write(file, key); err != nil {
			return changed, t.failed("admit host", p.Initiator, "the kernel's target does not take its secret", err)
		}
	}
	return changed, nil
}

// Revoke takes every LUN away from a host, ends its session and forgets it.
func (t *Target) Revoke(initiator string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revoke(initiator)
}

func (t *Target) revoke(initiator string) error {
	name := t.subsystem(initiator)
	dir := subsystemDir(name)
	if t.fs.Exists(dir) {
		gone, err := t.namespacesOf(name)
		if err != nil {
			return err
		}
		for _, n := range gone {
			if err := t.unmap(n); err != nil {
				return err
			}
		}
		if len(gone) > 0 && t.linked(name) {
			time.Sleep(t.settle)
		}
		if err := t.disconnect(name); err != nil {
			return err
		}
		for _, n := range gone {
			if err := t.dropUnused(n.lun); err != nil {
				return err
			}
		}
		allowed, err := t.fs.List(path.Join(dir, "allowed_hosts"))
		for _, who := range allowed {
			err = errors.Join(err, t.fs.Unlink(path.Join(dir, "allowed_hosts", who)))
		}
		if err = errors.Join(err, t.fs.Rmdir(dir)); err != nil {
			return t.failed("revoke host", initiator, "the kernel's target does not forget it", err)
		}
	}
	// Another array of this machine may know the host as well.
	others, err := t.fs.List("subsystems")
	if err == nil && !slices.ContainsFunc(others, func(s string) bool {
		return t.fs.Exists(path.Join(subsystemDir(s), "allowed_hosts", initiator))
	}) {
		err = t.fs.Rmdir(hostDir(initiator))
	}
	if err != nil {
		return t.failed("revoke host", initiator, "the kernel's target does not forget it", err)
	}
	return nil
}

// Connected reports whether the initiator may have a session: the kernel does
// not tell whose sessions there are. If nobody is connected, it is not.
func (t *Target) Connected(initiator string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.fs.Exists(subsystemDir(t.subsystem(initiator))) {
		return false, nil
	}
	for _, p := range t.portals {
		if on, err := t.talking(p); on || err != nil {
			return on, err
		}
	}
	return false, nil
}

// Teardown takes everything of the array out of the kernel, sessions first.
func (t *Target) Teardown() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	names, err := t.subsystems()
	if err != nil {
		return err
	}
	for _, s := range names {
		if err := t.revoke(t.initiator(s)); err != nil {
			return err
		}
	}
	t.portals = nil
	if _, err := t.listen(); err != nil {
		return err
	}
	all, err := t.back.All()
	if err != nil {
		return t.failed("end export", t.own, "the devices beneath the exports cannot be listed", err)
	}
	for _, n := range all {
		if t.owns(n) {
			if err := t.back.Drop(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// port is a portal that the kernel has.
type port struct {
	dir    string
	portal string
}

func (t *Target) ports() ([]port, error) {
	names, err := t.fs.List("ports")
	if err != nil {
		return nil, t.failed("look at exports", t.own, "the kernel's ports cannot be listed", err)
	}
	var out []port
	for _, name := range names {
		if n, err := strconv.Atoi(name); err != nil || n < firstPort || n > lastPort {
			continue
		}
		dir := path.Join("ports", name)
		linked, err := t.fs.List(path.Join(dir, "subsystems"))
		if err != nil {
			return nil, t.failed("look at exports", dir, "its subsystems cannot be listed", err)
		}
		// Another array of this machine has ports in the same range.
		if len(linked) > 0 && !slices.ContainsFunc(linked, func(s string) bool { return strings.HasPrefix(s, t.own) }) {
			continue
		}
		addr, _ := t.fs.Read(path.Join(dir, "addr_traddr"))
		service, _ := t.fs.Read(path.Join(dir, "addr_trsvcid"))
		out = append(out, port{dir, net.JoinHostPort(addr, service)})
	}
	return out, nil
}

// listen opens the portals for every host that is admitted, and closes others.
func (t *Target) listen() (differences []string, err error) {
	names, err := t.subsystems()
	if err != nil {
		return nil, err
	}
	have, err := t.ports()
	if err != nil {
		return nil, err
	}
	for _, p := range have {
		if slices.Contains(t.portals, p.portal) {
			continue
		}
		differences = append(differences, "portal "+p.portal+" is closed")
		linked, err := t.fs.List(path.Join(p.dir, "subsystems"))
		for _, s := range linked {
			err = errors.Join(err, t.fs.Unlink(path.Join(p.dir, "subsystems", s)))
		}
		if err = errors.Join(err, t.fs.Rmdir(p.dir)); err != nil {
			return differences, t.failed("close portal", p.portal, "the kernel refused", err)
		}
	}
	for _, want := range t.portals {
		i := slices.IndexFunc(have, func(p port) bool { return p.portal == want })
		var dir string
		if i >= 0 {
			dir = have[i].dir
		} else if dir, err = t.addPort(want); err != nil {
			return differences, err
		}
		for _, s := range names {
			link := path.Join(dir, "subsystems", s)
			if t.fs.Exists(link) {
				continue
			}
			differences = append(differences, "portal "+want+" was closed to "+t.initiator(s)+"; it is opened")
			// With the first the kernel begins to listen.
			if err := t.fs.Link(subsystemDir(s), link); err != nil {
				return differences, &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: "open portal", Object: want, Reason: "the address cannot be used",
					Remedy: "Stop what uses it, or give an address of this machine with --nvme-portal", Err: err}
			}
		}
	}
	return differences, nil
}

// addPort makes a portal, which listens from when a subsystem is linked to it.
func (t *Target) addPort(portal string) (dir string, err error) {
	host, service, err := net.SplitHostPort(portal)
	if err != nil {
		return "", t.failed("open portal", portal, "it is no address", err)
	}
	family := "ipv4"
	if strings.Contains(host, ":") {
		family = "ipv6"
	}
	for n := firstPort; ; n++ {
		if dir = path.Join("ports", strconv.Itoa(n)); !t.fs.Exists(dir) {
			break
		}
		if n == lastPort {
			return "", t.failed("open portal", portal, "all port numbers from 7480 to 7499 are taken in "+configfs.Root+"/nvmet/ports", nil)
		}
	}
	if err := t.fs.Mkdir(dir); err != nil {
		return "", t.failed("open portal", portal, "the kernel's target makes no port", err)
	}
	for _, w := range []struct{ file, value string }{{"addr_trtype", "tcp"}, {"addr_adrfam", family}, {"addr_traddr", host}, {"addr_trsvcid", service}} {
		if err := t.fs.Write(path.Join(dir, w.file), w.value); err != nil {
			_ = t.fs.Rmdir(dir)
			return "", t.failed("open portal", portal, "the kernel's target does not take its "+w.file, err)
		}
	}
	return dir, nil
}

func (t *Target) linked(subsystem string) bool {
	ports, err := t.ports()
	return err != nil || slices.ContainsFunc(ports, func(p port) bool { return t.fs.Exists(path.Join(p.dir, "subsystems", subsystem)) })
}

// disconnect ends the sessions of a subsystem: it takes it from the portals.
func (t *Target) disconnect(subsystem string) error {
	names, err := t.fs.List("ports")
	for _, p := range names {
		if link := path.Join("ports", p, "subsystems", subsystem); t.fs.Exists(link) {
			err = errors.Join(err, t.fs.Unlink(link))
		}
	}
	if err != nil {
		return t.failed("end session", subsystem, "the kernel's target does not take it from the portals", err)
	}
	return nil
}
