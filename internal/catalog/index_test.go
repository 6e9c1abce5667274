package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// numbered are IDs that tests draw from, few so that they meet.
func numbered(n int) vss.ID { return vss.ID{0: byte(n), 15: 1} }

var volumeNames = []string{"/srv/db", "/srv/db\xff", "/srv/log\n", ""}

func drawCopy(t *rapid.T) Copy {
	one := func(what string) int { return rapid.IntRange(0, 5).Draw(t, what) }
	c := Copy{Prop: vss.SnapshotProp{SnapshotID: numbered(rapid.IntRange(1, 40).Draw(t, "copy")), SnapshotSetID: numbered(one("set")),
		OriginalVolumeName: rapid.SampledFrom(volumeNames).Draw(t, "volume")},
		Session: numbered(one("session")), AutoRelease: rapid.Bool().Draw(t, "auto-release")}
	for range rapid.IntRange(0, 3).Draw(t, "LUNs") {
		c.Attachments = append(c.Attachments, Attachment{LUN: sampleLUN(byte(one("LUN"))).Info})
	}
	return c
}

func drawLUN(t *rapid.T) LUN {
	l := sampleLUN(byte(rapid.IntRange(0, 20).Draw(t, "LUN")))
	l.SetID = numbered(rapid.IntRange(0, 5).Draw(t, "set"))
	return l
}

// TestIndexIsTheScan: whatever is filed, filed again and forgotten, in however
// many transactions, every look at the index finds what a look at every record
// finds; and a file whose index is gone gets the same one again.
func TestIndexIsTheScan(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n, ".db"))
		c, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		c.db.NoSync = true
		defer func() { c.Close(); os.Remove(path) }()
		for range rapid.IntRange(1, 4).Draw(t, "transactions") {
			given := errors.New("given up")
			err := c.Update(t.Context(), func(tx *Tx) error {
				for range rapid.IntRange(0, 25).Draw(t, "steps") {
					var err error
					switch rapid.IntRange(0, 5).Draw(t, "step") {
					case 0:
						err = tx.DeleteCopy(numbered(rapid.IntRange(1, 40).Draw(t, "gone")))
					case 1:
						err = tx.PutLUN(drawLUN(t))
					case 2:
						err = tx.DeleteLUN(sampleLUN(byte(rapid.IntRange(0, 20).Draw(t, "gone"))).Name)
					default:
						err = tx.PutCopy(drawCopy(t))
					}
					if err != nil {
						return err
					}
				}
				if rapid.IntRange(0, 3).Draw(t, "end") == 0 {
					return given
				}
				return nil
			})
			if err != nil && !errors.Is(err, given) {
				t.Fatal(err)
			}
			indexIsScan(t, c)
		}
		before := indexKeys(c)
		_ = c.db.Update(func(tx *bbolt.Tx) error { // as version 1 left it
			return errors.Join(tx.DeleteBucket(bucketMeta), tx.DeleteBucket(bucketIndex))
		})
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if c, err = Open(path); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, indexKeys(c)); d != "" {
			t.Fatalf("the index made anew differs:\n%s", d)
		}
		indexIsScan(t, c)
	})
}

func indexKeys(c *Catalog) (out []string) {
	_ = c.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketIndex).ForEach(func(k, _ []byte) error { out = append(out, fmt.Sprintf("%q", k)); return nil })
	})
	return out
}

// indexIsScan compares every question the index answers with a scan.
func indexIsScan(t *rapid.T, c *Catalog) {
	t.Helper()
	err := c.View(func(tx *Tx) error {
		all, err := tx.Copies()
		if err != nil {
			return err
		}
		luns, err := tx.LUNs()
		if err != nil {
			return err
		}
		same := func(what string, got []Copy, err error, want func(Copy) bool) {
			t.Helper()
			var w []Copy
			for _, c := range all {
				if want(c) {
					w = append(w, c)
				}
			}
			if err != nil || len(w) != len(got) || len(w) > 0 && !reflect.DeepEqual(w, got) { // cmp.Diff takes its time
				t.Fatalf("%s: %v, -scan +index:\n%s", what, err, cmp.Diff(w, got))
			}
		}
		for i := range 6 {
			id := numbered(i)
			of, err := tx.CopiesOf(id)
			same("of set", of, err, func(c Copy) bool { return c.Prop.SnapshotSetID == id })
			auto, err := tx.AutoReleased(id)
			same("of session", auto, err, func(c Copy) bool { return c.AutoRelease && c.Session == id })
			l := sampleLUN(byte(i))
			on, err := tx.CopiesOn(l.Name)
			same("on LUN", on, err, func(c Copy) bool {
				return slices.ContainsFunc(c.Attachments, func(a Attachment) bool { return a.LUN.Name() == l.Name })
			})
			got, err := tx.LUNsOf(id)
			if d := cmp.Diff(slices.DeleteFunc(slices.Clone(luns), func(l LUN) bool { return l.SetID != id }), got, cmpopts.EquateEmpty()); d != "" || err != nil {
				t.Fatalf("LUNs of set: %v, -scan +index:\n%s", err, d)
			}
		}
		for _, f := range []CopyFilter{{}, {Set: numbered(1)}, {Volume: "/srv/db"}, {Volume: "/srv/db\xff"}, {Volume: "/srv/log\n"}, {Volume: "/none"}, {Set: numbered(2), Volume: "/srv/db"}} {
			for _, after := range []vss.ID{vss.GUIDNull, numbered(17), numbered(40)} {
				got, err := listed(tx.CopiesAfter(after, f), func(Copy) bool { return true })
				same(fmt.Sprint(f, " after ", after), got, err, func(c Copy) bool {
					return (f.Set.IsNull() || c.Prop.SnapshotSetID == f.Set) && (f.Volume == "" || c.Prop.OriginalVolumeName == asKept(f.Volume)) && c.Prop.SnapshotID.Bare() > after.Bare()
				})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestIndexLooksAtNoOthers: a filtered question does not even read a record
// that is not asked for. One that cannot be read shows that.
func TestIndexLooksAtNoOthers(t *testing.T) {
	c, _ := openTest(t)
	set, other := vss.NewID(), vss.NewID()
	file := func(id, set vss.ID, volume string) error {
		return c.Update(t.Context(), func(tx *Tx) error {
			return tx.PutCopy(Copy{Prop: vss.SnapshotProp{SnapshotID: id, SnapshotSetID: set, OriginalVolumeName: volume}, Session: set, AutoRelease: true,
				Attachments: []Attachment{{LUN: lun.Info{Version: 1, VendorID: volume, StorageIDs: []lun.StorageID{lun.NAA{0x60, 1: volume[5]}.StorageID()}}}}})
		})
	}
	mine, broken := vss.NewID(), vss.NewID()
	if err := errors.Join(file(mine, set, "/srv/db"), file(broken, other, "/srv/log")); err != nil {
		t.Fatal(err)
	}
	if err := c.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketCopies).Put([]byte(broken.Bare()), []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	_ = c.View(func(tx *Tx) error {
		if _, err := tx.Copies(); err == nil {
			t.Error("a look at every record did not meet the broken one")
		}
		for what, ask := range map[string]func() ([]Copy, error){
			"of the set": func() ([]Copy, error) { return tx.CopiesOf(set) },
			"of the volume": func() ([]Copy, error) {
				return listed(tx.CopiesAfter(vss.GUIDNull, CopyFilter{Volume: "/srv/db"}), func(Copy) bool { return true })
			},
			"on the LUN":   func() ([]Copy, error) { return tx.CopiesOn(lun.NAA{0x60, 1: 'd'}.String()) },
			"of a session": func() ([]Copy, error) { return tx.AutoReleased(set) },
		} {
			if cs, err := ask(); err != nil || len(cs) != 1 || cs[0].Prop.SnapshotID != mine {
				t.Errorf("%s: %d copies, %v", what, len(cs), err)
			}
		}
		return nil
	})
}

// TestSetsAfter: from any place on, the rest.
func TestSetsAfter(t *testing.T) {
	c, _ := openTest(t)
	if err := c.Update(t.Context(), func(tx *Tx) error {
		for i := range 9 {
			if err := tx.PutSet(Set{ID: numbered(i), Role: []Role{Created, Imported}[i%2]}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_ = c.View(func(tx *Tx) error {
		all, err := tx.Sets()
		if err != nil || len(all) != 9 {
			t.Fatalf("%d sets, %v", len(all), err)
		}
		places := []string{""}
		for _, s := range all {
			places = append(places, s.Place())
		}
		for i, p := range places {
			got, err := listed(tx.SetsAfter(p), func(Set) bool { return true })
			if d := cmp.Diff(all[i:], got, cmpopts.EquateEmpty()); d != "" || err != nil {
				t.Errorf("after %q: %v\n%s", p, err, d)
			}
		}
		return nil
	})
}

// TestNewerSchema: a file of a later version is refused with the remedy, and
// not one byte of it changes. One that says nonsense is refused as well.
func TestNewerSchema(t *testing.T) {
	for _, says := range []string{"3", "1000", "x", "-1", ""} {
		c, path := openTest(t)
		if err := c.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keySchema, []byte(says)) }); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(path)
		_, err := Open(path)
		e := vss.AsError("", err)
		if !errors.Is(err, vss.VSS_E_UNEXPECTED) || e.Remedy == "" || e.Object != path {
			t.Errorf("schema %q: %v", says, err)
		}
		if newer := says == "3" || says == "1000"; newer != errors.Is(err, errNewer) {
			t.Errorf("schema %q: %v", says, err)
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("schema %q: the file was changed", says)
		}
	}
}
