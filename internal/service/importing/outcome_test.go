package importing_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const (
	finished = vss.VSS_S_ASYNC_FINISHED
	some     = vss.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED
	none     = vss.VSS_E_NO_SNAPSHOTS_IMPORTED
)

func TestFinished(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a, w.b)
	w.want(w.run(t.Context(), d), finished)
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 3})
	if s := w.set(d.Set.ID); s.State != catalog.SetImported || s.Failure != nil || len(s.Timeline) == 0 {
		t.Errorf("set %+v", s)
	}
	for _, c := range w.copies() {
		p := c.Prop
		if p.SnapshotSetID != d.Set.ID || p.SnapshotsCount != 3 || p.Status != vss.SS_CREATED || p.ServiceMachine != "a" || p.BlockDevice == "" {
			t.Errorf("properties %+v", p)
		}
		if want := vss.ATTR_IMPORTED | vss.ATTR_NOT_SURFACED | vss.ATTR_TRANSPORTABLE | vss.ATTR_PERSISTENT; !p.Attributes.Has(want) {
			t.Errorf("attributes %s, want %s", p.Attributes, want)
		}
		if p.DeviceObject != w.im.DeviceObject(p.SnapshotID) || c.AutoRelease || !c.Quiesced || c.Attachments[0].DiskSeq == 0 {
			t.Errorf("copy %+v", c)
		}
	}
	if len(w.host.Mounts()) != 3 || len(w.host.Hidden()) != 3 {
		t.Errorf("mounts %v, hidden %v", w.host.Mounts(), w.host.Hidden())
	}
	// The order of requester.md 3.3: nothing is unmasked before it is hidden and
	// watched for; each provider is asked once, with its own LUNs only.
	j := w.journal
	order := []int{j.Index("Hide 3"), j.Index("Watch"), j.Index("LocateLUNs"), j.Index("Rescan 3"), j.Index("SetReadOnly"), j.Index("MountClone")}
	if !slices.IsSorted(order) || order[0] < 0 || j.Count("LocateLUNs") != 2 || j.Index("LocateLUNs array1 2") < 0 || j.Index("LocateLUNs array2 1") < 0 {
		t.Errorf("order of calls: %v", j.Calls())
	}
	w.event("import.done")
}

func TestAutoReleaseIsRecorded(t *testing.T) {
	w := newWorld(t)
	w.want(w.run(t.Context(), servicetest.NewSet(vss.CTX_FILE_SHARE_BACKUP, w.a)), finished)
	if c := w.copies()[0]; !c.AutoRelease || c.Session != w.session {
		t.Errorf("copy %+v", c)
	}
}

// TestLateArrival: a disk that comes by an event, after the rescan, is found.
func TestLateArrival(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	w.im.ArrivalTimeout = time.Minute
	w.host.Delay(target(d, 1), 20*time.Millisecond)
	w.want(w.run(t.Context(), d), finished)
}

// TestDeadline: the missing disk's copy is not imported when the deadline has
// passed; all its time is a bubble's, so that ten minutes cost none.
func TestDeadline(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	w.host.Delay(target(d, 1), servicetest.Never)
	w.im.ArrivalTimeout = 10 * time.Minute
	synctest.Test(t, func(*testing.T) {
		begin := time.Now()
		out := w.run(context.Background(), d)
		if took := time.Since(begin); took < 10*time.Minute || took > 11*time.Minute {
			t.Errorf("it waited %v", took)
		}
		if out.Code != some {
			t.Errorf("code %v (%v)", out.Code, out.Err)
		}
		wantWords(t, out.Err)
	})
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1, catalog.LUNOrphaned: 1})
	s := w.set(d.Set.ID)
	if s.State != catalog.SetPartial || s.Copies[0].Code != vss.S_OK || s.Copies[1].Code != vss.VSS_E_MISSING_DISK {
		t.Errorf("set %+v", s)
	}
	w.event("import.partial")
	if len(w.intents()) != 0 || len(w.copies()) != 1 || len(w.host.Hidden()) != 2 {
		t.Errorf("intents %v, copies %d, hidden %v", w.intents(), len(w.copies()), w.host.Hidden())
	}
}

// TestRescanKnows: when the initiator says that the rest does not come, nobody
// waits for the deadline.
func TestRescanKnows(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.im.ArrivalTimeout = time.Hour
	w.host.Fail("Rescan", errors.New("no such target"))
	out := w.run(t.Context(), d)
	w.want(out, none)
	if s := w.set(d.Set.ID); s.Copies[0].Code != vss.VSS_E_MISSING_DISK {
		t.Errorf("copies %+v", s.Copies)
	}
}

// TestMismatch: what is not what the document says is not imported, each for a
// reason of its own, and the rest is.
func TestMismatch(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(w *world, lun string)
		code  vss.HResult
	}{
		"size on the array": {func(w *world, n string) { w.a.Change(n, func(l *servicetest.LUN) { l.Size *= 2 }) }, vss.VSS_E_MISSING_HIDDEN_VOLUME},
		"size of the disk":  {func(w *world, n string) { w.host.Present(n, func(d *block.Device) { d.Size-- }) }, vss.VSS_E_MISSING_HIDDEN_VOLUME},
		"generation":        {func(w *world, n string) { w.a.Change(n, func(l *servicetest.LUN) { l.Generation++ }) }, vss.VSS_E_MISSING_HIDDEN_VOLUME},
		"filesystem":        {func(w *world, n string) { w.a.Change(n, func(l *servicetest.LUN) { l.Filesystem.UUID = "x" }) }, vss.VSS_E_MISSING_HIDDEN_VOLUME},
		"filesystem type":   {func(w *world, n string) { w.a.Change(n, func(l *servicetest.LUN) { l.Filesystem.Type = "xfs" }) }, vss.VSS_E_MISSING_HIDDEN_VOLUME},
		"filesystem size":   {func(w *world, n string) { w.a.Change(n, func(l *servicetest.LUN) { l.Filesystem.Size-- }) }, vss.VSS_E_MISSING_HIDDEN_VOLUME},
		"identity": {func(w *world, n string) {
			w.host.Present(n, func(d *block.Device) { d.LUN.StorageIDs = []lun.StorageID{lun.NAA{0x60, 1}.StorageID()} })
		}, vss.VSS_E_MISSING_DISK},
		"vendor": {func(w *world, n string) { w.a.Change(n, func(l *servicetest.LUN) { l.Info.VendorID = "OTHER" }) }, vss.VSS_E_MISSING_DISK},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
			tt.spoil(w, target(d, 0))
			w.im.ArrivalTimeout = 20 * time.Millisecond
			w.want(w.run(t.Context(), d), some)
			s := w.set(d.Set.ID)
			if s.Copies[0].Code != tt.code || s.Copies[1].Code != vss.S_OK || s.Copies[0].Failure.Remedy == "" {
				t.Errorf("copies %+v", s.Copies)
			}
			wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1, catalog.LUNOrphaned: 1})
		})
	}
}

func TestNone(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	for i := range d.Set.Snapshots {
		w.a.Change(target(d, i), func(l *servicetest.LUN) { l.Generation++ })
	}
	out := w.run(t.Context(), d)
	w.want(out, none)
	wantWords(t, out.Err)
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 2})
	if len(w.host.Attached()) != 2 || len(w.host.Hidden()) != 2 || w.set(d.Set.ID).State != catalog.SetImportFailed {
		t.Error("a failed import was undone")
	}
}

// TestVeto: LUNs may be unmasked after LocateLUNs failed, so they are listed.
func TestVeto(t *testing.T) {
	veto := &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "original attached", Remedy: "Detach it"}
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	w.a.Fail("LocatedLUNs", veto)
	out := w.run(t.Context(), d)
	w.want(out, vss.VSS_E_PROVIDER_VETO)
	wantWords(t, out.Err)
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 2})
	if len(w.host.Hidden()) != 2 {
		t.Errorf("hidden %v", w.host.Hidden())
	}
}

// TestTicketVeto: BeginImport's veto comes before anything is unmasked.
func TestTicketVeto(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.a.Fail("BeginImport", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "BeginImport", Reason: "ticket expired", Remedy: "Get another"})
	w.want(w.run(t.Context(), d), vss.VSS_E_PROVIDER_VETO)
	wantLUNs(t, w, nil)
	if len(w.host.Hidden()) != 0 || w.journal.Count("LocateLUNs") != 0 {
		t.Errorf("hidden %v, calls %v", w.host.Hidden(), w.journal.Calls())
	}
}

// TestOneOfTwoProvidersVetoes is requester.md 3.3, "a set may span providers".
func TestOneOfTwoProvidersVetoes(t *testing.T) {
	for _, lateByEvent := range []bool{false, true} {
		w := newWorld(t)
		d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.b)
		w.b.Fail("LocatedLUNs", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "LocateLUNs", Reason: "no", Remedy: "Ask"})
		if lateByEvent { // the vetoed LUN's disk does not count for the other's
			w.host.Delay(target(d, 0), 30*time.Millisecond)
			w.im.ArrivalTimeout = 10 * time.Second
		}
		w.want(w.run(t.Context(), d), some)
		s := w.set(d.Set.ID)
		if s.Copies[0].Code != vss.S_OK || s.Copies[1].Code != vss.VSS_E_PROVIDER_VETO {
			t.Errorf("copies %+v", s.Copies)
		}
		wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1, catalog.LUNOrphaned: 1})
	}
}

func TestOneOfTwoProvidersVetoesAndNothingMaps(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.b)
	w.b.Fail("BeginImport", &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "BeginImport", Reason: "no", Remedy: "Ask"})
	w.a.Change(target(d, 0), func(l *servicetest.LUN) { l.Generation++ })
	w.want(w.run(t.Context(), d), none)
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 1}) // the other was never unmasked
	if h := w.host.Hidden(); len(h) != 1 || h[0] != target(d, 0) {
		t.Errorf("hidden %v", h)
	}
}

// TestBoundElsewhere: nothing is unmasked, listed or left in the rules.
func TestBoundElsewhere(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	w.a.Bind(d.Set.ID)
	out := w.run(t.Context(), d)
	w.want(out, vss.VSS_E_BAD_STATE)
	wantWords(t, out.Err)
	wantLUNs(t, w, nil)
	if len(w.host.Hidden()) != 0 || w.journal.Count("Unhide 2") != 1 {
		t.Errorf("hidden %v, calls %v", w.host.Hidden(), w.journal.Calls())
	}
	// And LocateLUNs may be the one that says so.
	w = newWorld(t)
	d = servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.a.Fail("LocateLUNs", &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: "LocateLUNs", Reason: "bound", Remedy: "No"})
	w.want(w.run(t.Context(), d), vss.VSS_E_BAD_STATE)
	wantLUNs(t, w, nil)
	if len(w.host.Hidden()) != 0 {
		t.Errorf("hidden %v", w.host.Hidden())
	}
}

func TestRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		code vss.HResult
		make func(w *world) (set vss.ID, out vss.HResult)
	}{
		"not transportable": {vss.VSS_E_NONTRANSPORTABLE_BCD, func(w *world) (vss.ID, vss.HResult) {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
			d.Set.Attributes &^= vss.ATTR_TRANSPORTABLE
			return d.Set.ID, w.run(t.Context(), d).Code
		}},
		"software copy without LUNs": {vss.VSS_E_NONTRANSPORTABLE_BCD, func(w *world) (vss.ID, vss.HResult) {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
			d.Set.Snapshots[1].LUNs = nil
			return d.Set.ID, w.run(t.Context(), d).Code
		}},
		"no set in the document": {vss.VSS_E_NONTRANSPORTABLE_BCD, func(w *world) (vss.ID, vss.HResult) {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
			id := d.Set.ID
			d.Set = nil
			return id, w.run(t.Context(), d).Code
		}},
		"unknown provider": {vss.VSS_E_PROVIDER_NOT_REGISTERED, func(w *world) (vss.ID, vss.HResult) {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, servicetest.NewArray(9, w.journal))
			return d.Set.ID, w.run(t.Context(), d).Code
		}},
		"ticket of an array not joined": {vss.VSS_E_PROVIDER_NOT_REGISTERED, func(w *world) (vss.ID, vss.HResult) {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
			w.a.Fail("VerifyTicket", &vss.Error{Code: vss.VSS_E_PROVIDER_NOT_REGISTERED, Op: "verify", Reason: "array", Remedy: "Join"})
			return d.Set.ID, w.run(t.Context(), d).Code
		}},
		"altered after it was loaded": {vss.VSS_E_INVALID_XML_DOCUMENT, func(w *world) (vss.ID, vss.HResult) {
			d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
			d.Set.Snapshots[0].OriginalVolumeName = "/other"
			if err := w.im.Validate(d); !errors.Is(err, vss.VSS_E_INVALID_XML_DOCUMENT) {
				t.Errorf("Validate: %v", err)
			}
			return d.Set.ID, w.run(t.Context(), d).Code
		}},
		"a LUN of another set": {vss.VSS_E_BAD_STATE, func(w *world) (vss.ID, vss.HResult) {
			d, thief := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a), servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
			if out := w.run(t.Context(), d); out.Code != finished {
				t.Fatal(out.Err)
			}
			thief.Set.Snapshots[0].LUNs = d.Set.Snapshots[0].LUNs
			servicetest.Sign(thief)
			w.journal.Reset()
			out := w.run(t.Context(), thief).Code
			wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1})
			return thief.Set.ID, out
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, got := tt.make(w)
			if got != tt.code {
				t.Errorf("%v, want %v", got, tt.code)
			}
			if c := w.journal.Calls(); len(c) != 0 {
				t.Errorf("something was done: %v", c)
			}
			if s := w.set(id); s.State != "" {
				t.Errorf("it is on record: %+v", s)
			}
			w.event("import.refused")
		})
	}
}

func TestSecondImport(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.want(w.run(t.Context(), d), finished)
	w.journal.Reset()
	out := w.run(t.Context(), d)
	w.want(out, vss.VSS_E_BAD_STATE)
	wantWords(t, out.Err)
	if c := w.journal.Calls(); len(c) != 0 {
		t.Errorf("calls %v", c)
	}
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1})
}

// TestTwoCopiesOnOneLUN: the LUN is located once; it is imported if one of its
// copies is.
func TestTwoCopiesOnOneLUN(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	servicetest.Share(d)
	w.want(w.run(t.Context(), d), finished)
	if w.journal.Index("LocateLUNs array1 1") < 0 || len(w.copies()) != 2 {
		t.Errorf("calls %v, %d copies", w.journal.Calls(), len(w.copies()))
	}
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1})

	w = newWorld(t)
	d = servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
	servicetest.Share(d)
	d.Set.Snapshots[1].Filesystem.UUID = "another"
	servicetest.Sign(d)
	w.want(w.run(t.Context(), d), some)
	wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNImported: 1})
}

// TestUnlistedProviderCode: named with provider and method (requester.md 3.9).
func TestUnlistedProviderCode(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.a.Fail("LocateLUNs", &vss.Error{Code: vss.VSS_E_REBOOT_REQUIRED, Reason: "firmware"})
	w.want(w.run(t.Context(), d), vss.VSS_E_UNEXPECTED_PROVIDER_ERROR)
	if e := w.event("import.failed"); e.Failure == nil || e.Failure.Op != "LocateLUNs" || e.Failure.Object != "array1" {
		t.Errorf("event %+v", e)
	}
}

// TestPanic: a provider's panic neither ends the service nor unlists a LUN.
func TestPanic(t *testing.T) {
	t.Run("provider", func(t *testing.T) {
		w := newWorld(t)
		d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
		w.a.On("LocatedLUNs", func(context.Context) error { panic("provider bug") })
		w.want(w.run(t.Context(), d), vss.VSS_E_UNEXPECTED)
		wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 1})
	})
	t.Run("import", func(t *testing.T) {
		w := newWorld(t)
		d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
		arm(t, "import.after-arrive=panic")
		w.want(w.run(t.Context(), d), vss.VSS_E_UNEXPECTED)
		wantLUNs(t, w, map[catalog.LUNState]int{catalog.LUNOrphaned: 1})
	})
	t.Run("one copy", func(t *testing.T) {
		w := newWorld(t)
		d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a, w.a)
		var n atomic.Int32
		w.host.On("SetReadOnly", func(context.Context) error {
			if n.Add(1) == 1 {
				panic("host bug")
			}
			return nil
		})
		w.want(w.run(t.Context(), d), some)
	})
}

// TestMountFails: the copy is imported all the same (requester.md 8, row 29).
func TestMountFails(t *testing.T) {
	w := newWorld(t)
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, w.a)
	w.host.Fail("MountClone", &vss.Error{Code: vss.VSS_E_VOLUME_NOT_SUPPORTED, Op: "mount", Reason: "btrfs twin", Remedy: "Unmount the original"})
	w.want(w.run(t.Context(), d), finished)
	c := w.copies()[0]
	if c.Prop.DeviceObject != "" || c.Prop.BlockDevice == "" {
		t.Errorf("properties %+v", c.Prop)
	}
	if _, err := os.Stat(w.im.DeviceObject(c.Prop.SnapshotID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty device object stays: %v", err)
	}
	if e := w.event("copy.not-mounted"); e.Failure == nil || e.Failure.Remedy == "" {
		t.Errorf("event %+v", e)
	}
}
