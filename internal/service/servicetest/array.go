package servicetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/umbra-vss/umbra/internal/host/filesystem"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/vss"
)

// LUN is one LUN of an Array.
type LUN struct {
	Info       lun.Info
	Size       uint64
	Generation uint64
	Filesystem filesystem.Identity
	Unmasked   bool
	LVM        lvm.Disk // what LVM wrote on it; nothing if its UUID is ""
}

// Array is a storage system and its hardware provider.
type Array struct {
	ID      vss.ID
	Name    string
	Journal *Journal

	mu     sync.Mutex
	number byte
	made   byte // LUNs so far
	luns   map[string]*LUN
	bound  map[vss.ID]vss.ID // set to import
	// targets are the copies of sets made here, by set and source.
	targets map[string]string
	hooks   map[string]func(context.Context) error
}

// NewArray returns an array without LUNs; number keeps the names of its LUNs
// apart from another's.
func NewArray(number byte, j *Journal) *Array {
	return &Array{ID: vss.NewID(), Name: fmt.Sprintf("array%d", number), Journal: j, number: number,
		luns: map[string]*LUN{}, bound: map[vss.ID]vss.ID{}, targets: map[string]string{}, hooks: map[string]func(context.Context) error{}}
}

// On makes a method call f first, and fail if f does; nil takes it back.
func (a *Array) On(method string, f func(context.Context) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hooks[method] = f
}

// Fail makes a method fail.
func (a *Array) Fail(method string, err error) {
	a.On(method, func(context.Context) error { return err })
}

func (a *Array) hook(ctx context.Context, method string) error {
	a.mu.Lock()
	f := a.hooks[method]
	a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f != nil {
		return f(ctx)
	}
	return nil
}

// Add makes a LUN, masked.
func (a *Array) Add(size uint64, fs filesystem.Identity) LUN {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made++
	n := lun.NAA{0x60, 0x01, 0x40, 0x5a, 0, a.number, 15: a.made}
	l := &LUN{Size: size, Generation: 100 + uint64(a.made), Filesystem: fs,
		Info: lun.Info{Version: lun.InfoVersion, BusType: lun.BusSCSI, VendorID: "TEST", ProductID: a.Name, SerialNumber: n.String()[20:], StorageIDs: []lun.StorageID{n.StorageID()}}}
	a.luns[n.String()] = l
	return *l
}

// LUN returns a LUN as it is now; false if it was destroyed.
func (a *Array) LUN(name string) (LUN, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.luns[name]
	if !ok {
		return LUN{}, false
	}
	return *l, true
}

// Change changes a LUN behind everybody's back.
func (a *Array) Change(name string, f func(*LUN)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a.luns[name])
}

// Bound returns the import a set is bound to, GUID_NULL for none.
func (a *Array) Bound(set vss.ID) vss.ID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bound[set]
}

// Bind binds a set to somebody else's import.
func (a *Array) Bind(set vss.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bound[set] = vss.NewID()
}

// Names lists the LUNs that exist, sorted.
func (a *Array) Names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.luns))
}

// Properties implements provider.Provider.
func (a *Array) Properties() vss.ProviderProp {
	return vss.ProviderProp{ProviderID: a.ID, Name: a.Name, Type: vss.PROV_HARDWARE, Version: "1"}
}

// AreLUNsSupported implements provider.Hardware.
func (a *Array) AreLUNsSupported(ctx context.Context, _ vss.Context, _ []string, luns []lun.Info) (bool, error) {
	if err := a.hook(ctx, "AreLUNsSupported"); err != nil {
		return false, err
	}
	for _, l := range luns {
		if _, ok := a.LUN(l.Name()); !ok {
			return false, nil
		}
	}
	return len(luns) > 0, nil
}

// BeginPrepareSnapshot implements provider.Hardware.
func (a *Array) BeginPrepareSnapshot(ctx context.Context, set, _ vss.ID, _ vss.Context, _ []string, _ []lun.Info) error {
	a.Journal.add("BeginPrepareSnapshot %s", a.Name)
	return a.hook(ctx, "BeginPrepareSnapshot")
}

// EndPrepareSnapshots implements provider.SnapshotSetCreator.
func (a *Array) EndPrepareSnapshots(ctx context.Context, _ vss.ID) error {
	a.Journal.add("EndPrepareSnapshots %s", a.Name)
	return a.hook(ctx, "EndPrepareSnapshots")
}

// PreCommitSnapshots implements provider.SnapshotSetCreator.
func (a *Array) PreCommitSnapshots(ctx context.Context, _ vss.ID) error {
	return a.hook(ctx, "PreCommitSnapshots")
}

// CommitSnapshots implements provider.SnapshotSetCreator.
func (a *Array) CommitSnapshots(ctx context.Context, _ vss.ID) error {
	a.Journal.add("CommitSnapshots %s", a.Name)
	return a.hook(ctx, "CommitSnapshots")
}

// PostCommitSnapshots implements provider.SnapshotSetCreator.
func (a *Array) PostCommitSnapshots(ctx context.Context, _ vss.ID, _ int) error {
	return a.hook(ctx, "PostCommitSnapshots")
}

// PreFinalCommitSnapshots implements provider.SnapshotSetCreator.
func (a *Array) PreFinalCommitSnapshots(ctx context.Context, _ vss.ID) error {
	return a.hook(ctx, "PreFinalCommitSnapshots")
}

// PostFinalCommitSnapshots implements provider.SnapshotSetCreator.
func (a *Array) PostFinalCommitSnapshots(ctx context.Context, _ vss.ID) error {
	return a.hook(ctx, "PostFinalCommitSnapshots")
}

// AbortSnapshots implements provider.SnapshotSetCreator.
func (a *Array) AbortSnapshots(ctx context.Context, _ vss.ID) error {
	a.Journal.add("AbortSnapshots %s", a.Name)
	return a.hook(ctx, "AbortSnapshots")
}

// GetTargetLUNs implements provider.Hardware. The copies are made when they
// are first asked for, one for each LUN of the set.
func (a *Array) GetTargetLUNs(ctx context.Context, set vss.ID, _ []string, luns []lun.Info) ([]lun.Info, error) {
	if err := a.hook(ctx, "GetTargetLUNs"); err != nil {
		return nil, err
	}
	var out []lun.Info
	for _, l := range luns {
		key := set.String() + l.Name()
		a.mu.Lock()
		name, ok := a.targets[key]
		a.mu.Unlock()
		if !ok {
			source, found := a.LUN(l.Name())
			if !found {
				return nil, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "GetTargetLUNs", Object: l.Name(), Reason: "no such LUN", Remedy: "Create a new set"}
			}
			name = a.Add(source.Size, source.Filesystem).Info.Name()
			a.mu.Lock()
			a.targets[key] = name
			a.mu.Unlock()
		}
		target, _ := a.LUN(name)
		out = append(out, target.Info)
	}
	return out, nil
}

// IssueTicket implements provider.TicketIssuer.
func (a *Array) IssueTicket(ctx context.Context, _ vss.ID, digest [32]byte) ([]byte, error) {
	return Ticket(digest), a.hook(ctx, "IssueTicket")
}

// BeginImport implements provider.ImportBinder.
func (a *Array) BeginImport(ctx context.Context, im provider.Import) error {
	a.Journal.add("BeginImport %s", a.Name)
	if err := a.hook(ctx, "BeginImport"); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if b, ok := a.bound[im.SetID]; ok && b != im.ImportID {
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "BeginImport", Object: im.SetID.String(), Reason: "the set is bound to another import", Remedy: "Use it there"}
	}
	a.bound[im.SetID] = im.ImportID
	return nil
}

// ReleaseImport implements provider.ImportBinder.
func (a *Array) ReleaseImport(ctx context.Context, set, importID vss.ID) error {
	a.Journal.add("ReleaseImport %s", a.Name)
	if err := a.hook(ctx, "ReleaseImport"); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bound[set] == importID {
		delete(a.bound, set)
	}
	return nil
}

// CheckImport implements provider.ImportChecker.
func (a *Array) CheckImport(ctx context.Context, im provider.Import) ([]provider.Description, error) {
	if err := a.hook(ctx, "CheckImport"); err != nil {
		return nil, err
	}
	return a.DescribeLUNs(ctx, im.LUNs)
}

// LocateLUNs implements provider.Hardware. The hook "LocateLUNs" runs first,
// "LocatedLUNs" when the LUNs are unmasked.
func (a *Array) LocateLUNs(ctx context.Context, luns []lun.Info) error {
	a.Journal.add("LocateLUNs %s %d", a.Name, len(luns))
	if err := a.hook(ctx, "LocateLUNs"); err != nil {
		return err
	}
	a.mu.Lock()
	for _, l := range luns {
		if have := a.luns[l.Name()]; have != nil {
			have.Unmasked = true
		}
	}
	a.mu.Unlock()
	return a.hook(ctx, "LocatedLUNs")
}

// FillInLUNInfo implements provider.Hardware.
func (a *Array) FillInLUNInfo(ctx context.Context, _ string, info *lun.Info) (bool, error) {
	if err := a.hook(ctx, "FillInLUNInfo"); err != nil {
		return false, err
	}
	l, ok := a.LUN(info.Name())
	if ok {
		*info = l.Info
	}
	return ok, nil
}

// OnLUNEmpty implements provider.Hardware.
func (a *Array) OnLUNEmpty(ctx context.Context, _ string, info lun.Info) error {
	a.Journal.add("OnLUNEmpty %s", info.Name())
	if err := a.hook(ctx, "OnLUNEmpty"); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.luns, info.Name())
	return nil
}

// OnLUNEmptyForced implements provider.ForcedReclaimer.
func (a *Array) OnLUNEmptyForced(ctx context.Context, _ string, info lun.Info) error {
	a.Journal.add("OnLUNEmptyForced %s", info.Name())
	if err := a.hook(ctx, "OnLUNEmptyForced"); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.luns, info.Name())
	return nil
}

// OnLUNStateChange implements provider.LUNStateChanger.
func (a *Array) OnLUNStateChange(ctx context.Context, luns, _ []lun.Info, flags vss.HardwareOptions) error {
	for _, l := range luns {
		a.Journal.add("Mask %s", l.Name())
	}
	if err := a.hook(ctx, "OnLUNStateChange"); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range luns {
		if have := a.luns[l.Name()]; have != nil && flags&vss.ONLUNSTATECHANGE_DO_MASK_LUNS != 0 {
			have.Unmasked = false
		}
	}
	return nil
}

// DescribeLUNs implements provider.Describer.
func (a *Array) DescribeLUNs(ctx context.Context, luns []lun.Info) ([]provider.Description, error) {
	if err := a.hook(ctx, "DescribeLUNs"); err != nil {
		return nil, err
	}
	var out []provider.Description
	for _, i := range luns {
		l, ok := a.LUN(i.Name())
		if !ok {
			return nil, &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "DescribeLUNs", Object: i.Name(), Reason: "no such LUN", Remedy: "Create a new set"}
		}
		out = append(out, provider.Description{Size: l.Size, Generation: l.Generation, ReadOnly: true})
	}
	return out, nil
}

// VerifyTicket implements provider.TicketVerifier: a ticket is "ticket " and
// the digest.
func (a *Array) VerifyTicket(ticket []byte, set vss.ID, digest [32]byte) error {
	if err := a.hook(context.Background(), "VerifyTicket"); err != nil {
		return err
	}
	if string(ticket) != string(Ticket(digest)) {
		return &vss.Error{Code: vss.VSS_E_INVALID_XML_DOCUMENT, Op: "verify ticket", Object: set.String(), Reason: "the document was altered", Remedy: "Use the original"}
	}
	return nil
}

// Ticket is the ticket VerifyTicket accepts.
func Ticket(digest [32]byte) []byte { return append([]byte("ticket "), digest[:]...) }
