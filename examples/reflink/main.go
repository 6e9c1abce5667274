// Command reflink is a complete Umbra provider: its LUNs are files of a folder
// on XFS or btrfs, shown as loop devices, and a copy is a reflink.
//
// docs/provider-guide.md explains it line by line. All it knows is in its
// folder, so it may die at any moment:
//
//	originals/HOST/LUN          what each host has
//	making/HOST/SET/COPY.LUN    copies of the set that HOST is making
//	copies/SET/COPY.LUN         complete ones; a rename brings them here
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/provider/loopdisk"
	"github.com/umbra-vss/umbra/provider/remote"
	"github.com/umbra-vss/umbra/vss"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: reflink FOLDER (started by the service, see umbra provider register)")
	}
	p := &reflink{dir: os.Args[1], host: os.Getenv(remote.EnvHost), tag: os.Getenv(remote.EnvHostTag)}
	if err := remote.Serve(context.Background(), p); err != nil {
		log.Fatal(err)
	}
}

// reflink is the provider. One set is made at a time; mu guards it.
type reflink struct {
	dir, host string
	tag       string // the host, in the names of its loop devices

	mu  sync.Mutex
	cur *set
}

// set is the one that is being made: how far it is, and the copy of each LUN.
type set struct {
	id      vss.ID
	state   string // what has been done: Begin, End, Pre, Commit
	volumes int
	targets map[lun.NAA]lun.NAA
}

// Properties are those of the manifest.
func (*reflink) Properties() vss.ProviderProp {
	id, _ := vss.ParseID("{5b2c6a1e-0f5d-4f0e-9c53-7d1c3c0a9e21}")
	version, _ := vss.ParseID("{c9d0a7f2-6f0b-4be8-8a54-1f6f5b6f7f01}")
	return vss.ProviderProp{ProviderID: id, Name: "Reflink sample", Type: vss.PROV_HARDWARE, Version: "1.0", VersionID: version}
}

// fail is an error of the contract: a code, what is wrong, and what helps.
func fail(code vss.HResult, method, object, reason string, err error) error {
	return &vss.Error{Code: code, Op: method, Object: object, Reason: reason, Remedy: "See the folder of the reflink provider, and umbra list luns", Err: err}
}

// info is what a LUN is called. It depends on the name alone, so that the host,
// GetTargetLUNs and FillInLUNInfo cannot disagree.
func info(n lun.NAA) lun.Info {
	return lun.Info{Version: lun.InfoVersion, CommandQueueing: true, BusType: lun.BusFileBackedVirtual, VendorID: "EXAMPLE", ProductID: "REFLINK FILE",
		ProductRevision: "1", SerialNumber: n.String()[11:], StorageIDs: []lun.StorageID{n.StorageID()}}
}

func (r *reflink) path(p ...string) string { return filepath.Join(append([]string{r.dir}, p...)...) }
func (r *reflink) making(id vss.ID) string { return r.path("making", r.host, id.Bare()) }

// original is the file of a LUN that can be copied, and whether there is one.
func (r *reflink) original(l lun.Info) (n lun.NAA, path string, ok bool) {
	if n, ok = l.NAA(); !ok {
		return n, "", false
	}
	path = r.path("originals", r.host, n.String())
	fi, err := os.Stat(path)
	return n, path, err == nil && fi.Mode().IsRegular()
}

// copied is the file of a complete copy, or "".
func (r *reflink) copied(n lun.NAA) string {
	found, _ := filepath.Glob(r.path("copies", "*", n.String()+".*"))
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

// OnLoad begins a life: what the last one was making is gone, and the LUNs are
// shown to this machine.
func (r *reflink) OnLoad(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range []string{r.path("originals", r.host), r.path("copies"), r.path("making", r.host)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fail(vss.VSS_E_PROVIDER_VETO, "OnLoad", d, "the folder cannot be made", err)
		}
	}
	if err := r.drop(); err != nil {
		return err
	}
	files, _ := filepath.Glob(r.path("originals", r.host, "naa.*"))
	for _, f := range files {
		n, err := lun.ParseNAA(filepath.Base(f))
		if err == nil {
			err = loopdisk.Attach(f, n, r.tag, true)
		}
		if err != nil {
			return fail(vss.VSS_E_PROVIDER_VETO, "OnLoad", f, "the LUN cannot be shown to this machine", err)
		}
	}
	return nil
}

// OnUnload ends it; a set that is being made is aborted.
func (r *reflink) OnUnload(context.Context, bool) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return true, r.drop()
}

// drop deletes all that is not complete. r.mu is held.
func (r *reflink) drop() error {
	r.cur = nil
	left, _ := filepath.Glob(r.path("making", r.host, "*"))
	for _, d := range left {
		if err := os.RemoveAll(d); err != nil {
			return fail(vss.VSS_E_PROVIDER_VETO, "AbortSnapshots", d, "an unfinished set cannot be deleted", err)
		}
	}
	return nil
}

// AreLUNsSupported says yes if every LUN is ours. A reflink is not a plex.
func (r *reflink) AreLUNsSupported(_ context.Context, c vss.Context, _ []string, luns []lun.Info) (bool, error) {
	for i := range luns {
		n, _, ok := r.original(luns[i])
		if !ok {
			return false, nil
		}
		paths := luns[i].Interconnects // never ours to change
		luns[i] = info(n)
		luns[i].Interconnects = paths
	}
	return len(luns) > 0 && !c.Has(vss.ATTR_PLEX), nil
}

// BeginPrepareSnapshot adds a volume. A LUN that recurs is copied once; a new set
// replaces an unfinished one.
func (r *reflink) BeginPrepareSnapshot(_ context.Context, id, snapshot vss.ID, _ vss.Context, _ []string, luns []lun.Info) error {
	const op = "BeginPrepareSnapshot"
	r.mu.Lock()
	defer r.mu.Unlock()
	if id.IsNull() || snapshot.IsNull() || len(luns) == 0 {
		return fail(vss.E_INVALIDARG, op, id.String(), "a set, a snapshot and LUNs must be given", nil)
	}
	for _, l := range luns {
		if _, _, ok := r.original(l); !ok {
			return fail(vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER, op, l.Name(), "the LUN is not one of this provider's originals", nil)
		}
	}
	if r.cur == nil || r.cur.id != id {
		if err := r.drop(); err != nil {
			return err
		}
		r.cur = &set{id: id, targets: map[lun.NAA]lun.NAA{}}
	}
	if r.cur.volumes == 64 {
		return fail(vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, op, id.String(), "the set has 64 volumes", nil)
	}
	r.cur.volumes++
	r.cur.state = "Begin"
	for _, l := range luns {
		n, _ := l.NAA()
		if _, again := r.cur.targets[n]; !again {
			target := lun.NAA(vss.NewID())                  // random
			copy(target[:], []byte{0x60, 0x02, 0x2a, 0x10}) // NAA 6, and the company's number
			r.cur.targets[n] = target
		}
	}
	return nil
}

// phase is a step of the current set. Out of order it drops the set.
func (r *reflink) phase(method string, id vss.ID, after, state string, f func(*set) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.cur
	if s == nil || s.id != id {
		return fail(vss.VSS_E_PROVIDER_VETO, method, id.String(), "the set is not being made", nil)
	}
	if s.state != after {
		_ = r.drop()
		return fail(vss.VSS_E_PROVIDER_VETO, method, id.String(), "the call is out of order", nil)
	}
	if err := f(s); err != nil {
		_ = r.drop()
		return fail(vss.VSS_E_PROVIDER_VETO, method, id.String(), "the copies cannot be made", err)
	}
	s.state = state
	return nil
}

// EndPrepareSnapshots makes all that can be made before the hold: empty files.
func (r *reflink) EndPrepareSnapshots(_ context.Context, id vss.ID) error {
	return r.phase("EndPrepareSnapshots", id, "Begin", "End", func(s *set) error {
		if err := os.MkdirAll(r.making(id), 0o700); err != nil {
			return err
		}
		return r.each(s, func(_ lun.NAA, file string) error { return os.WriteFile(file, nil, 0o600) })
	})
}

// each calls f with every original and its copy's file.
func (r *reflink) each(s *set, f func(source lun.NAA, file string) error) error {
	for source, target := range s.targets {
		if err := f(source, filepath.Join(r.making(s.id), target.String()+"."+source.String())); err != nil {
			return err
		}
	}
	return nil
}

// PreCommitSnapshots has nothing left to do.
func (r *reflink) PreCommitSnapshots(_ context.Context, id vss.ID) error {
	return r.phase("PreCommitSnapshots", id, "End", "Pre", func(*set) error { return nil })
}

// CommitSnapshots is the point in time. Writes to the volumes are held: nothing
// here may touch them, be slow, or log.
func (r *reflink) CommitSnapshots(_ context.Context, id vss.ID) error {
	return r.phase("CommitSnapshots", id, "Pre", "Commit", func(s *set) error {
		return r.each(s, func(source lun.NAA, file string) error {
			return clone(r.path("originals", r.host, source.String()), file)
		})
	})
}

func clone(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer dst.Close()
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
}

// PostCommitSnapshots makes the copies durable: all of the set, or none.
func (r *reflink) PostCommitSnapshots(_ context.Context, id vss.ID, _ int) error {
	return r.phase("PostCommitSnapshots", id, "Commit", "Post", func(s *set) error {
		if err := r.each(s, func(_ lun.NAA, file string) error { return sync1(file) }); err != nil {
			return err
		}
		if err := sync1(r.making(id)); err != nil {
			return err
		}
		if err := os.Rename(r.making(id), r.path("copies", id.Bare())); err != nil {
			return err
		}
		r.cur = nil // complete: no abort reaches it any more
		return sync1(r.path("copies"))
	})
}

func sync1(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// PreFinalCommitSnapshots and PostFinalCommitSnapshots have nothing to do.
func (*reflink) PreFinalCommitSnapshots(context.Context, vss.ID) error  { return nil }
func (*reflink) PostFinalCommitSnapshots(context.Context, vss.ID) error { return nil }

// AbortSnapshots drops what is not complete.
func (r *reflink) AbortSnapshots(_ context.Context, id vss.ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cur == nil || r.cur.id != id {
		return nil
	}
	return r.drop()
}

// DropSet deletes a set that nobody was told of, complete or not.
func (r *reflink) DropSet(ctx context.Context, id vss.ID) error {
	if err := r.AbortSnapshots(ctx, id); err != nil {
		return err
	}
	if err := os.RemoveAll(r.path("copies", id.Bare())); err != nil {
		return fail(vss.VSS_E_PROVIDER_VETO, "DropSet", id.String(), "the set cannot be deleted", err)
	}
	return nil
}

// GetTargetLUNs says what the copies are called; the folder remembers.
func (r *reflink) GetTargetLUNs(_ context.Context, id vss.ID, _ []string, source []lun.Info) (out []lun.Info, err error) {
	for _, l := range source {
		n, _ := l.NAA()
		found, _ := filepath.Glob(r.path("copies", id.Bare(), "*."+n.String()))
		target, err := lun.ParseNAA(strings.TrimSuffix(filepath.Base(strings.Join(found, "")), "."+n.String()))
		if err != nil {
			return nil, fail(vss.VSS_E_OBJECT_NOT_FOUND, "GetTargetLUNs", l.Name(), "the set has no copy of the LUN", err)
		}
		out = append(out, info(target))
	}
	return out, nil
}

// LocateLUNs makes devices of copies, read-only: all of them, or none.
func (r *reflink) LocateLUNs(_ context.Context, luns []lun.Info) error {
	for _, l := range luns {
		if n, ok := l.NAA(); !ok || r.copied(n) == "" {
			return fail(vss.VSS_E_PROVIDER_VETO, "LocateLUNs", l.Name(), "there is no such copy", provider.ErrNothingUnmasked)
		}
	}
	for _, l := range luns {
		n, _ := l.NAA()
		if err := loopdisk.Attach(r.copied(n), n, r.tag, false); err != nil {
			return fail(vss.VSS_E_PROVIDER_VETO, "LocateLUNs", l.Name(), "no loop device can be made of it", err)
		}
	}
	return nil
}

// FillInLUNInfo makes what the host read from a device what GetTargetLUNs said.
func (r *reflink) FillInLUNInfo(_ context.Context, _ string, l *lun.Info) (bool, error) {
	n, _, mine := r.original(*l)
	if !mine && r.copied(n) == "" {
		return false, nil
	}
	paths := l.Interconnects
	*l = info(n)
	l.Interconnects = paths
	return true, nil
}

// OnLUNEmpty destroys a copy, and nothing else. One that is gone is success.
func (r *reflink) OnLUNEmpty(_ context.Context, _ string, l lun.Info) error {
	n, _, original := r.original(l)
	if original {
		return fail(vss.VSS_E_PROVIDER_VETO, "OnLUNEmpty", l.Name(), "the LUN is an original, not a copy", nil)
	}
	path := r.copied(n)
	if path == "" {
		return nil
	}
	if err := loopdisk.Detach(n); err != nil {
		return fail(vss.VSS_E_PROVIDER_VETO, "OnLUNEmpty", l.Name(), "the copy is in use", err)
	}
	if err := os.Remove(path); err != nil {
		return fail(vss.VSS_E_PROVIDER_VETO, "OnLUNEmpty", path, "the copy cannot be deleted", err)
	}
	_ = os.Remove(filepath.Dir(path)) // with its last copy the set goes
	return nil
}

// OnLUNStateChange hides copies; the rest is for our information.
func (r *reflink) OnLUNStateChange(_ context.Context, copies, originals []lun.Info, flags vss.HardwareOptions) error {
	all := vss.ONLUNSTATECHANGE_DO_MASK_LUNS | vss.ONLUNSTATECHANGE_NOTIFY_READ_WRITE | vss.ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY | vss.ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY
	if len(copies) != len(originals) || flags&^all != 0 {
		return fail(vss.E_INVALIDARG, "OnLUNStateChange", flags.String(), "the lists are of different lengths, or a flag is none", nil)
	}
	for _, l := range copies {
		n, ok := l.NAA()
		if flags&vss.ONLUNSTATECHANGE_DO_MASK_LUNS == 0 || !ok || r.copied(n) == "" {
			continue
		}
		if err := loopdisk.Detach(n); err != nil {
			return fail(vss.VSS_E_PROVIDER_VETO, "OnLUNStateChange", l.Name(), "the copy is in use", err)
		}
	}
	return nil
}

// BackingStores names the filesystem below: it is never frozen in a set of ours.
func (r *reflink) BackingStores(context.Context) ([]provider.BackingStore, error) {
	var st unix.Stat_t
	if err := unix.Stat(r.dir, &st); err != nil {
		return nil, fail(vss.VSS_E_PROVIDER_VETO, "BackingStores", r.dir, "the folder cannot be looked at", err)
	}
	return []provider.BackingStore{{Device: st.Dev, Path: r.dir}}, nil
}
