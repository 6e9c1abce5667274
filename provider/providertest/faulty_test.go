package providertest

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// storage is what outlives a provider's process.
type storage struct {
	mu    sync.Mutex
	dir   string
	made  uint64
	disks map[string]*disk
	sets  map[vss.ID]*set
}

type disk struct {
	info       lun.Info
	size       uint64
	data       []byte // of a copy; an original is its file
	file       string // of an original
	generation uint64
	set        vss.ID
	located    bool
}

type set struct {
	id      vss.ID
	sc      vss.Context
	volumes map[vss.ID]bool
	luns    []lun.Info
	targets map[string]string
	phase   int // phases made
	bound   vss.ID
}

func newStorage(dir string) *storage {
	s := &storage{dir: dir, disks: map[string]*disk{}, sets: map[vss.ID]*set{}}
	for range 2 {
		d := s.add()
		d.size, d.file = blockSize, filepath.Join(dir, d.info.Name())
		if err := os.WriteFile(d.file, make([]byte, d.size), 0o600); err != nil {
			panic(err)
		}
	}
	return s
}

func (s *storage) add() *disk {
	s.made++
	n := lun.NAA{0: 0x60, 1: 0x12}
	binary.BigEndian.PutUint64(n[8:], s.made)
	d := &disk{generation: s.made, info: lun.Info{Version: lun.InfoVersion, BusType: lun.BusSCSI, VendorID: "FAULTY", ProductID: "DISK", ProductRevision: "1",
		SerialNumber: n.String()[20:], StorageIDs: []lun.StorageID{n.StorageID()}}}
	s.disks[d.info.Name()] = d
	return d
}

func (s *storage) originals() (out []Disk) {
	for _, name := range slices.Sorted(maps.Keys(s.disks)) {
		if d := s.disks[name]; d.file != "" {
			out = append(out, Disk{Info: d.info, Device: d.file, Size: d.size})
		}
	}
	return out
}

// faulty is a whole provider in memory, with one fault.
type faulty struct {
	fault string
	*storage
	cur   *set
	calls int
}

func (f *faulty) has(fault string) bool { return f.fault == fault }

func (f *faulty) refuse(op string, code vss.HResult, reason string) error {
	switch f.fault {
	case "answers E_FAIL":
		code = vss.E_FAIL
	case "answers a success code":
		code = vss.S_FALSE
	case "gives no remedy":
		return &vss.Error{Code: code, Op: op, Reason: reason}
	case "gives no reason":
		return &vss.Error{Code: code, Op: op, Remedy: "Try again"}
	case "answers plain errors":
		return errors.New(reason)
	}
	return &vss.Error{Code: code, Op: op, Reason: reason, Remedy: "Call in the right order"}
}

func (f *faulty) Properties() vss.ProviderProp {
	p := vss.ProviderProp{ProviderID: vss.ID{1}, Name: "faulty", Type: vss.PROV_HARDWARE, Version: "1"}
	f.calls++
	if f.has("has no version") {
		p.Version = ""
	}
	if f.has("changes its properties") && f.calls%2 == 0 {
		p.Name = "other"
	}
	return p
}

func (f *faulty) known(l lun.Info) *disk { return f.disks[l.Name()] }

func (f *faulty) AreLUNsSupported(ctx context.Context, sc vss.Context, _ []string, luns []lun.Info) (bool, error) {
	const op = "AreLUNsSupported"
	if f.has("ignores its context") && ctx.Err() != nil {
		time.Sleep(2 * time.Minute)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.has("answers questions one at a time") && f.cur != nil && f.cur.phase > 0 && f.cur.phase < 4 {
		return false, f.refuse(op, vss.VSS_E_PROVIDER_VETO, "a set is being made")
	}
	if f.has("cannot do differential") && sc.Has(vss.ATTR_DIFFERENTIAL) {
		return false, f.refuse(op, vss.VSS_E_UNSUPPORTED_CONTEXT, "no")
	}
	own := 0
	for i, l := range luns {
		if f.has("touches interconnects") && len(l.Interconnects) > 0 {
			luns[i].Interconnects[0].Port = []byte("p")
		}
		if d := f.known(l); d != nil {
			own++
			if d.file == "" && f.has("has no word for its own copies") {
				return false, f.refuse(op, vss.E_INVALIDARG, "a copy")
			}
		} else if f.has("takes an unknown LUN for an error") {
			return false, f.refuse(op, vss.VSS_E_OBJECT_NOT_FOUND, "no such LUN")
		}
	}
	switch f.fault {
	case "supports nothing":
		return false, nil
	case "supports everything":
		return true, nil
	case "supports volumes in part":
		return own > 0, nil
	case "is fickle":
		return f.calls%2 == 0, nil
	}
	return own == len(luns) && own > 0, nil
}

func (f *faulty) BeginPrepareSnapshot(ctx context.Context, id, snapshot vss.ID, sc vss.Context, _ []string, luns []lun.Info) error {
	const op = "BeginPrepareSnapshot"
	if f.has("prepares at once") { // not under the lock: only sleepers let the test's time pass
		time.Sleep(11 * time.Second)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case id.IsNull() && !f.has("takes a set without an ID"), snapshot.IsNull() && !f.has("takes a snapshot without an ID"), len(luns) == 0 && !f.has("takes a volume without LUNs"):
		return f.refuse(op, vss.E_INVALIDARG, "something is missing")
	}
	for _, l := range luns {
		if f.known(l) == nil && !f.has("prepares unknown LUNs") {
			return f.refuse(op, vss.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER, "no such LUN")
		}
	}
	if old := f.cur; old != nil && (old.id != id || old.phase > 0) && !(f.has("does not begin anew") && old.id == id) {
		if old.phase <= postCommit {
			f.drop(old)
		} else if f.has("drops a complete set for the next") {
			f.drop(old)
		}
		f.cur = nil
	}
	if f.cur == nil {
		f.cur = &set{id: id, sc: sc, volumes: map[vss.ID]bool{}, targets: map[string]string{}}
		f.sets[id] = f.cur
	}
	if len(f.cur.volumes) == 64 && !f.has("has no limit") {
		return f.refuse(op, vss.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "64 volumes")
	}
	f.cur.volumes[snapshot] = true
	f.cur.luns = append(f.cur.luns, luns...)
	return nil
}

func (f *faulty) drop(s *set) {
	if f.sets[s.id] == s {
		delete(f.sets, s.id)
	}
	for _, n := range s.targets {
		delete(f.disks, n)
	}
	if f.cur == s {
		f.cur = nil
	}
}

func (f *faulty) step(n int, id vss.ID, do func(s *set)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	op := phases[n].name
	if n == preCommit && f.has("panics") {
		panic("boom")
	}
	s := f.cur
	if f.has("keeps no order") {
		if s != nil && s.id == id && s.phase == n {
			do(s)
			s.phase++
		}
		return nil
	}
	if s == nil || s.id != id || s.phase != n {
		if s != nil && (s.phase <= postCommit && !f.has("goes on after a veto") || f.has("drops a complete set at a stray call")) {
			f.drop(s)
		}
		return f.refuse(op, vss.VSS_E_PROVIDER_VETO, "out of order")
	}
	do(s)
	s.phase++
	return nil
}

func (f *faulty) EndPrepareSnapshots(ctx context.Context, id vss.ID) error {
	if f.has("hangs") {
		time.Sleep(10 * time.Minute)
	}
	return f.step(endPrepare, id, func(s *set) {
		for i, l := range s.luns {
			source := f.known(l)
			if _, again := s.targets[l.Name()]; again && !f.has("copies a shared LUN twice") || source == nil {
				continue
			}
			key := l.Name()
			if _, again := s.targets[key]; again {
				key = key + "again"
			}
			if f.has("makes one copy of all") && i > 0 {
				s.targets[key] = s.targets[s.luns[0].Name()]
				continue
			}
			var d *disk
			if f.has("names copies after their originals") {
				info := clone(l)
				info.StorageIDs[0].Identifier[2] = 0xcc
				d = &disk{info: info, generation: 1}
				f.disks[info.Name()] = d
			} else {
				d = f.add()
			}
			d.size, d.set = source.size, id
			if f.has("makes copies of another size") {
				d.size += 512
			}
			s.targets[key] = d.info.Name()
			if f.has("copies when it prepares") {
				d.data = f.read(l)
			}
		}
	})
}

func (f *faulty) read(l lun.Info) []byte {
	b, err := os.ReadFile(f.known(l).file)
	if err != nil {
		panic(err)
	}
	return b
}

func (f *faulty) PreCommitSnapshots(_ context.Context, id vss.ID) error {
	return f.step(preCommit, id, func(*set) {})
}

func (f *faulty) CommitSnapshots(_ context.Context, id vss.ID) error {
	if f.has("commits slowly") {
		time.Sleep(11 * time.Second)
	}
	if f.has("cannot commit") {
		return f.refuse("CommitSnapshots", vss.VSS_E_PROVIDER_VETO, "no")
	}
	return f.step(commit, id, func(s *set) {
		for i, l := range s.luns {
			d := f.disks[s.targets[l.Name()]]
			if d == nil || f.has("copies when it prepares") {
				continue
			}
			if f.has("mixes up its copies") {
				l = s.luns[len(s.luns)-1-i]
			}
			d.data = f.read(l)
		}
	})
}

func (f *faulty) PostCommitSnapshots(_ context.Context, id vss.ID, _ int) error {
	return f.step(postCommit, id, func(*set) {})
}

func (f *faulty) PreFinalCommitSnapshots(_ context.Context, id vss.ID) error {
	return f.step(preFinal, id, func(*set) {})
}

func (f *faulty) PostFinalCommitSnapshots(_ context.Context, id vss.ID) error {
	return f.step(postFinal, id, func(*set) {})
}

func (f *faulty) AbortSnapshots(_ context.Context, id vss.ID) error {
	const op = "AbortSnapshots"
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sets[id]
	switch {
	case f.has("does not abort"):
		return nil
	case f.has("aborts whatever is current") && f.cur != nil:
		s = f.cur
	case s == nil && (f.has("knows no unknown set") || f.has("aborts once") && f.calls > 0):
		return f.refuse(op, vss.VSS_E_PROVIDER_VETO, "no such set")
	case s != f.cur && f.has("forgets what it began"):
		return nil
	}
	if s != nil && (s.phase < len(phases) || f.has("aborts complete sets")) {
		f.calls++
		f.drop(s)
	}
	return nil
}

func (f *faulty) GetTargetLUNs(_ context.Context, id vss.ID, _ []string, source []lun.Info) ([]lun.Info, error) {
	const op = "GetTargetLUNs"
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sets[id]
	if s == nil {
		if f.has("knows copies of any set") {
			return clones(source), nil
		}
		if f.has("has another word for an unknown set") {
			return nil, f.refuse(op, vss.VSS_E_PROVIDER_VETO, "no such set")
		}
		return nil, f.refuse(op, vss.VSS_E_OBJECT_NOT_FOUND, "no such set")
	}
	var out []lun.Info
	for i, l := range source {
		key := l.Name()
		if f.has("copies a shared LUN twice") && i > 0 {
			key += "again"
		}
		d := f.disks[s.targets[key]]
		switch {
		case f.has("names the original"):
			out = append(out, clone(l))
			continue
		case d == nil && f.has("knows copies of any LUN"):
			out = append(out, clone(l))
			continue
		case d == nil:
			return nil, f.refuse(op, vss.VSS_E_OBJECT_NOT_FOUND, "no copy of it")
		case f.has("invents a name at each call"):
			old := d
			d = f.add()
			d.size, d.data, d.set = old.size, old.data, id
		}
		info := clone(d.info)
		switch f.fault {
		case "gives copies no name":
			info.StorageIDs[0].Type = lun.IDVendorSpecific
		case "signs its copies":
			info.DiskSignature = vss.ID{1}
		}
		out = append(out, info)
	}
	if f.has("sorts its answers") {
		slices.SortFunc(out, func(a, b lun.Info) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return out, nil
}

func (f *faulty) LocateLUNs(_ context.Context, luns []lun.Info) error {
	const op = "LocateLUNs"
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range luns {
		d := f.known(l)
		if d == nil || d.file != "" {
			if f.has("locates anything") {
				continue
			}
			return f.refuse(op, vss.VSS_E_PROVIDER_VETO, "no such copy")
		}
		if d.located && f.has("locates once") {
			return f.refuse(op, vss.VSS_E_PROVIDER_VETO, "is here already")
		}
		if s := f.sets[d.set]; s != nil && s.sc.Transportable() && s.bound.IsNull() {
			return f.refuse(op, vss.VSS_E_PROVIDER_VETO, "nobody imports it")
		}
		d.located = true
	}
	return nil
}

func (f *faulty) FillInLUNInfo(_ context.Context, _ string, info *lun.Info) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.known(*info)
	if d == nil {
		if f.has("claims every disk") {
			return true, nil
		}
		if f.has("changes every disk") {
			info.VendorID = "FAULTY"
		}
		return false, nil
	}
	switch f.fault {
	case "does not know its disks":
		return false, nil
	case "fills in nothing":
		return true, nil
	case "takes every copy for the last":
		for _, o := range f.disks {
			if o.generation > d.generation {
				d = o
			}
		}
	}
	paths := info.Interconnects
	*info = clone(d.info)
	if !f.has("touches interconnects") {
		info.Interconnects = paths
	}
	return true, nil
}

func (f *faulty) OnLUNEmpty(_ context.Context, _ string, info lun.Info) error {
	const op = "OnLUNEmpty"
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.known(info)
	switch {
	case d == nil && f.has("empties once"):
		return f.refuse(op, vss.VSS_E_OBJECT_NOT_FOUND, "is gone")
	case d == nil, f.has("reclaims nothing"):
		return nil
	case d.file != "" && !f.has("destroys originals"):
		return f.refuse(op, vss.E_ACCESSDENIED, "an original")
	case d.located && f.has("keeps what it has shown"):
		return f.refuse(op, vss.VSS_E_PROVIDER_VETO, "is shown to the host")
	case f.has("reclaims everything"):
		for n, o := range f.disks {
			if o.file == "" {
				delete(f.disks, n)
			}
		}
	}
	delete(f.disks, info.Name())
	return nil
}

func (f *faulty) OnLUNEmptyForced(ctx context.Context, device string, info lun.Info) error {
	return f.OnLUNEmpty(ctx, device, info)
}

func (f *faulty) OnLUNStateChange(_ context.Context, snapshots, originals []lun.Info, flags vss.HardwareOptions) error {
	const op = "OnLUNStateChange"
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case len(snapshots) != len(originals) && !f.has("takes lists of any length"), flags&1 != 0 && !f.has("takes any flag"):
		return f.refuse(op, vss.E_INVALIDARG, "bad arguments")
	case flags&vss.ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY != 0 && f.has("has no writable window"):
		return f.refuse(op, vss.VSS_E_PROVIDER_VETO, "no")
	}
	for _, l := range snapshots {
		if d := f.known(l); d != nil && flags&vss.ONLUNSTATECHANGE_DO_MASK_LUNS != 0 {
			d.located = false
			if f.has("destroys what it masks") {
				delete(f.disks, l.Name())
			}
		}
	}
	return nil
}

func (f *faulty) DescribeLUNs(_ context.Context, luns []lun.Info) ([]provider.Description, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []provider.Description
	for _, l := range luns {
		d := f.known(l)
		if d == nil {
			if f.has("describes anything") {
				d = &disk{}
			} else {
				return nil, f.refuse("DescribeLUNs", vss.VSS_E_OBJECT_NOT_FOUND, "no such LUN")
			}
		}
		if f.has("counts generations by question") {
			d.generation++
		}
		out = append(out, provider.Description{Size: d.size, Generation: d.generation, ReadOnly: true})
	}
	if f.has("sorts its descriptions") {
		slices.SortFunc(out, func(a, b provider.Description) int { return int(a.Generation) - int(b.Generation) })
	}
	return out, nil
}

func (f *faulty) BackingStores(context.Context) ([]provider.BackingStore, error) {
	if f.has("hides its stores' paths") {
		return []provider.BackingStore{{Device: 1}}, nil
	}
	return []provider.BackingStore{{Device: 1, Path: f.dir}}, nil
}

func (f *faulty) DropSet(_ context.Context, id vss.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sets[id]
	switch {
	case s == nil && f.has("drops known sets only"):
		return f.refuse("DropSet", vss.VSS_E_OBJECT_NOT_FOUND, "no such set")
	case s == nil, f.has("drops nothing"):
		return nil
	}
	f.drop(s)
	return nil
}

func (f *faulty) IssueTicket(_ context.Context, id vss.ID, digest [32]byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sets[id] == nil && !f.has("signs anything") {
		return nil, f.refuse("IssueTicket", vss.VSS_E_OBJECT_NOT_FOUND, "no such set")
	}
	return append(id[:], digest[:]...), nil
}

func (f *faulty) VerifyTicket(ticket []byte, id vss.ID, digest [32]byte) error {
	if string(ticket) != string(append(id[:], digest[:]...)) && !f.has("believes every ticket") {
		return f.refuse("VerifyTicket", vss.VSS_E_INVALID_XML_DOCUMENT, "altered")
	}
	return nil
}

// importable says what stands against an import.
func (f *faulty) importable(op string, im provider.Import) (*set, error) {
	s := f.sets[im.SetID]
	switch {
	case s == nil, f.has("lets nobody import"), string(im.Ticket) != string(append(im.SetID[:], im.Digest[:]...)) && !f.has("lets in without a ticket"):
		return nil, f.refuse(op, vss.VSS_E_PROVIDER_VETO, "no")
	case !s.bound.IsNull() && s.bound != im.ImportID && !f.has("lets everybody import"):
		return nil, f.refuse(op, vss.VSS_E_BAD_STATE, "imported elsewhere")
	}
	return s, nil
}

func (f *faulty) BeginImport(_ context.Context, im provider.Import) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.importable("BeginImport", im)
	if err == nil {
		s.bound = im.ImportID
	}
	return err
}

func (f *faulty) ReleaseImport(_ context.Context, id, importID vss.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sets[id]
	switch {
	case f.has("keeps what it is to release"):
	case s != nil && s.bound == importID:
		s.bound = vss.GUIDNull
	case f.has("releases once"):
		return f.refuse("ReleaseImport", vss.VSS_E_OBJECT_NOT_FOUND, "no such import")
	}
	return nil
}

func (f *faulty) CheckImport(ctx context.Context, im provider.Import) ([]provider.Description, error) {
	f.mu.Lock()
	s, err := f.importable("CheckImport", im)
	if err == nil && f.has("imports what it is to check") {
		s.bound = im.ImportID
	}
	f.mu.Unlock()
	switch {
	case f.has("finds nothing against an import"):
		return []provider.Description{{Size: blockSize, Generation: 1, ReadOnly: true}}, nil
	case err != nil:
		return nil, err
	case f.has("checks nothing"):
		return nil, nil
	}
	return f.DescribeLUNs(ctx, im.LUNs)
}

func (f *faulty) OnLoad(context.Context) error { return nil }

func (f *faulty) OnUnload(context.Context, bool) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.has("does not let itself be unloaded") {
		return false, nil
	}
	if f.cur != nil && f.cur.phase <= postCommit && !f.has("lives on when unloaded") {
		f.drop(f.cur)
	}
	return true, nil
}

// restart begins a new life on the same storage.
func (f *faulty) restart(context.Context) (provider.Hardware, error) {
	n := &faulty{fault: f.fault, storage: f.storage}
	if f.has("goes on after a restart") {
		n.cur = f.cur
	}
	if f.has("keeps its sets in memory") {
		f.mu.Lock()
		clear(f.sets)
		f.mu.Unlock()
	}
	return n, nil
}

// attach is the host.
func (f *faulty) attach(_ context.Context, l lun.Info) (Disk, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.known(l)
	if d == nil || !d.located || d.data == nil {
		return Disk{}, errors.New("no such disk here")
	}
	data := d.data
	path := filepath.Join(f.dir, "here-"+l.Name())
	if f.has("shows the original") {
		return Disk{Info: d.info, Device: f.originals()[0].Device, Size: d.size}, nil
	}
	return Disk{Info: d.info, Device: path, Size: d.size}, os.WriteFile(path, data, 0o600)
}

func (f *faulty) detach(_ context.Context, d Disk) error {
	if strings.HasPrefix(filepath.Base(d.Device), "here-") {
		return os.Remove(d.Device)
	}
	return nil
}
