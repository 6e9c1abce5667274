package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func openTest(t *testing.T) (*Catalog, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state", "catalog.db")
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, path
}

func sampleLUN(n byte) LUN {
	naa := lun.NAA{0x60, 15: n}
	return LUN{Name: naa.String(), Info: lun.Info{Version: 1, VendorID: "V", StorageIDs: []lun.StorageID{naa.StorageID()}},
		SetID: vss.NewID(), SnapshotID: vss.NewID(), ProviderID: vss.NewID(), State: LUNOrphaned, Reason: "because"}
}

// TestRoundTrip: what is filed is what is read, also after reopening.
func TestRoundTrip(t *testing.T) {
	c, path := openTest(t)
	now := time.Now().UTC().Round(0)
	fail := FailureOf(&vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: "o", Object: "x", Reason: "r", Remedy: "Do", EventID: "7", Err: errors.New("cause")})
	set := Set{ID: vss.NewID(), Role: Imported, State: SetPartial, ImportID: vss.NewID(), Session: vss.NewID(), AutoRelease: true,
		Description: &document.SnapshotSet{ID: vss.NewID(), Count: 1, OriginatingMachine: "a", ServiceMachine: "a",
			Snapshots: []document.Snapshot{{ID: vss.NewID(), ProviderID: vss.NewID(), OriginalVolumeName: "/srv/\xff\n", Filesystem: document.Filesystem{Type: "xfs", Size: 1 << 60}}}},
		Timeline: []Phase{{"locate", "x", 5, 7}}, Copies: []CopyStatus{{SnapshotID: vss.NewID(), LUN: "naa.1", Code: vss.VSS_E_MISSING_DISK, Failure: fail}}, Failure: fail, Begun: now}
	created := set
	created.Role = Created
	l := sampleLUN(1)
	cp := Copy{Prop: vss.SnapshotProp{SnapshotID: vss.NewID(), SnapshotSetID: set.ID, SnapshotsCount: 3, Attributes: vss.ATTR_IMPORTED, CreationTimestamp: vss.TimestampOf(now), Status: vss.SS_CREATED},
		Session: vss.NewID(), Attachments: []Attachment{{LUN: l.Info, Device: "/dev/loop3", Major: 7, Minor: 3, DiskSeq: 99, Size: 1 << 40}}, Sources: []lun.Info{l.Info}, BootID: "b"}
	var in Intent
	err := c.Update(t.Context(), func(tx *Tx) (err error) {
		in, err = tx.OpenIntent(Intent{Kind: "import", Role: Imported, SetID: set.ID, Begun: now, BootID: "b"})
		return errors.Join(err, tx.PutSet(set), tx.PutSet(created), tx.PutLUN(l), tx.PutCopy(cp))
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err = c.View(func(tx *Tx) error {
			gs, found, err := tx.Set(Imported, set.ID)
			check := func(what string, got, want any) {
				t.Helper()
				if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" || !found || err != nil {
					t.Errorf("%s: found %v, %v, -want +got:\n%s", what, found, err, d)
				}
			}
			check("set", gs, set)
			gs, found, err = tx.Set(Created, set.ID)
			check("created set", gs, created)
			gl, found, err := tx.LUN(l.Name)
			check("LUN", gl, l)
			gc, found, err := tx.Copy(cp.Prop.SnapshotID)
			check("copy", gc, cp)
			of, err := tx.CopiesOf(set.ID)
			check("copies of the set", of, []Copy{cp})
			is, err := tx.Intents()
			check("intents", is, []Intent{in})
			if _, found, _ := tx.Copy(vss.NewID()); found {
				t.Error("found what is not there")
			}
			if ss, _ := tx.Sets(); len(ss) != 2 || ss[0].Role != Created {
				t.Errorf("sets %v", ss)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if c, err = Open(path); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	err = c.Update(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.DeleteSet(Created, set.ID), tx.DeleteLUN(l.Name), tx.DeleteCopy(cp.Prop.SnapshotID), tx.CloseIntent(in.ID), tx.CloseIntent(in.ID))
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.View(func(tx *Tx) error {
		ss, _ := tx.Sets()
		ls, _ := tx.LUNs()
		cs, _ := tx.Copies()
		is, _ := tx.Intents()
		if len(ss) != 1 || len(ls)+len(cs)+len(is) != 0 {
			t.Errorf("left: %d %d %d %d", len(ss), len(ls), len(cs), len(is))
		}
		return nil
	})
}

// TestUpdateIsOneTransaction: an error or a panic in it leaves nothing behind,
// and nothing locked.
func TestUpdateIsOneTransaction(t *testing.T) {
	c, _ := openTest(t)
	boom := errors.New("boom")
	if err := c.Update(t.Context(), func(tx *Tx) error { return errors.Join(tx.PutLUN(sampleLUN(1)), boom) }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = c.Update(t.Context(), func(tx *Tx) error { _ = tx.PutLUN(sampleLUN(1)); panic("x") })
	}()
	if err := c.Update(t.Context(), func(tx *Tx) error { return tx.PutLUN(sampleLUN(2)) }); err != nil {
		t.Fatal(err)
	}
	_ = c.View(func(tx *Tx) error {
		if ls, _ := tx.LUNs(); len(ls) != 1 {
			t.Errorf("LUNs %v", ls)
		}
		return nil
	})
	release, err := c.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestSecondOpenIsRefused(t *testing.T) {
	_, path := openTest(t)
	_, err := Open(path)
	if !errors.Is(err, vss.VSS_E_OBJECT_ALREADY_EXISTS) || vss.AsError("", err).Remedy == "" {
		t.Errorf("%v", err)
	}
}

// TestDamagedFile: a file that is none, or was cut short, is an error and stays
// as it is.
func TestDamagedFile(t *testing.T) {
	c, path := openTest(t)
	for i := range 200 {
		if err := c.Update(t.Context(), func(tx *Tx) error {
			l := sampleLUN(byte(i))
			l.Reason = string(make([]byte, 2000))
			return tx.PutLUN(l)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"text": []byte("this is no catalogue, it only has its name and is long enough"), "zeros": make([]byte, 1<<16), "half": whole[:len(whole)/2], "head": whole[:9000]} {
		p := filepath.Join(t.TempDir(), "catalog.db")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(p)
		if err == nil {
			// bbolt may not need the missing half to open; then it must be readable.
			t.Logf("%s: opened", name)
			c.Close()
			continue
		}
		if !errors.Is(err, vss.VSS_E_UNEXPECTED) || vss.AsError("", err).Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(p); string(after) != string(b) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestEventsAreTrimmed(t *testing.T) {
	c, _ := openTest(t)
	set := vss.NewID()
	err := c.Update(t.Context(), func(tx *Tx) error {
		for i := range maxEvents + 50 {
			e := Event{Level: "info", Name: "n", Message: fmt.Sprint(i)}
			if i == 60 {
				e.SetID = set
			}
			if _, err := tx.AddEvent(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.View(func(tx *Tx) error {
		all, err := tx.Events("", vss.GUIDNull, 2*maxEvents)
		if err != nil || len(all) != maxEvents {
			t.Errorf("%d events, %v", len(all), err)
		}
		if all[0].Message != fmt.Sprint(maxEvents+49) || all[len(all)-1].Message != "50" || all[0].Time.IsZero() {
			t.Errorf("first %+v, last %+v", all[0], all[len(all)-1])
		}
		if few, _ := tx.Events("", vss.GUIDNull, 0); len(few) != 100 {
			t.Errorf("default limit gave %d", len(few))
		}
		if of, _ := tx.Events("", set, 10); len(of) != 1 {
			t.Errorf("of the set: %v", of)
		}
		if one, _ := tx.Events(all[7].ID, vss.GUIDNull, 0); len(one) != 1 || one[0].ID != all[7].ID {
			t.Errorf("by ID: %v", one)
		}
		return nil
	})
}

// TestFailureKeepsTheError holds FailureOf and Err to each other.
func TestFailureKeepsTheError(t *testing.T) {
	if FailureOf(nil) != nil || (*Failure)(nil).Err() != nil {
		t.Error("nil does not stay nil")
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String()
		e := &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: s.Draw(t, "op"), Object: s.Draw(t, "object"), Reason: s.Draw(t, "reason"), Remedy: s.Draw(t, "remedy"), EventID: s.Draw(t, "event")}
		if d := cmp.Diff(error(e), FailureOf(fmt.Errorf("wrapped: %w", e)).Err()); d != "" {
			t.Fatal(d)
		}
	})
}
