package doctor

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// records is a catalogue and a machine as a test says.
type records struct {
	c       *catalog.Catalog
	err     error
	busy    vss.ID
	mounted map[string]bool
	at      Attached
}

func (r *records) View(f func(*catalog.Tx) error) error {
	if r.err != nil {
		return r.err
	}
	return r.c.View(f)
}
func (r *records) Busy(set vss.ID) bool                 { return !set.IsNull() && set == r.busy }
func (r *records) Mounted(path string) (bool, error)    { return r.mounted[path], nil }
func (r *records) Attached(catalog.Attachment) Attached { return r.at }
func (r *records) BootID() string                       { return "boot" }

func newRecords(t *testing.T, put func(*catalog.Tx) error) *records {
	t.Helper()
	c, err := catalog.Open(filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Update(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	return &records{c: c, mounted: map[string]bool{}}
}

// TestBrokenImport: a failed import and its LUNs are found until they are cleaned
// up, and while an import runs it is not broken.
func TestBrokenImport(t *testing.T) {
	set := vss.NewID()
	l := catalog.LUN{Name: "naa.6001405000000000000000000000000a", SetID: set, State: catalog.LUNOrphaned, Reason: "it did not arrive"}
	s := catalog.Set{ID: set, Role: catalog.Imported, State: catalog.SetImportFailed, Begun: ago(time.Hour), Failure: &catalog.Failure{Reason: "no copy came"}}
	r := newRecords(t, func(t *catalog.Tx) error { return errors.Join(t.PutSet(s), t.PutLUN(l)) })
	fs := ExamineRecords(t.Context(), r)
	if len(fs) != 2 {
		t.Fatalf("%+v", fs)
	}
	one(t, fs[:1], "import.broken", "set "+set.String(), "import-failed", "no copy came", "umbra cleanup "+set.String())
	one(t, fs[1:], "lun.orphaned", l.Name, "it did not arrive", "umbra cleanup "+set.String())
	if !fs[0].Since.Equal(s.Begun) || !fs[1].Since.Equal(s.Begun) {
		t.Errorf("%+v", fs)
	}
	r.busy = set
	if fs := ExamineRecords(t.Context(), r); len(fs) != 0 {
		t.Errorf("one that runs: %+v", fs)
	}
	r.busy = vss.GUIDNull
	if err := r.c.Update(t.Context(), func(t *catalog.Tx) error { return t.DeleteLUN(l.Name) }); err != nil {
		t.Fatal(err)
	}
	if fs := ExamineRecords(t.Context(), r); len(fs) != 0 {
		t.Errorf("one that was cleaned up: %+v", fs)
	}
}

func TestLeftCreation(t *testing.T) {
	set := vss.NewID()
	r := newRecords(t, func(t *catalog.Tx) error {
		_, err := t.OpenIntent(catalog.Intent{Kind: "create", Role: catalog.Created, SetID: set, Begun: ago(time.Hour)})
		if err == nil {
			_, err = t.OpenIntent(catalog.Intent{Kind: "expose", Begun: ago(time.Hour)})
		}
		return err
	})
	one(t, ExamineRecords(t.Context(), r), "create.left", set.String(), "umbra list arrays")
	r.busy = set
	if fs := ExamineRecords(t.Context(), r); len(fs) != 0 {
		t.Errorf("one that runs: %+v", fs)
	}
}

func TestCopies(t *testing.T) {
	id, set := vss.NewID(), vss.NewID()
	naa := lun.NAA{0: 0x60, 15: 1}
	c := catalog.Copy{Prop: vss.SnapshotProp{SnapshotID: id, SnapshotSetID: set, OriginalVolumeName: "/srv/db", ExposedName: "/mnt/db", Attributes: vss.ATTR_EXPOSED_LOCALLY},
		Attachments: []catalog.Attachment{{LUN: lun.Info{StorageIDs: []lun.StorageID{naa.StorageID()}}, Device: "/dev/loop7"}}, BootID: "boot"}
	r := newRecords(t, func(t *catalog.Tx) error { return t.PutCopy(c) })
	one(t, ExamineRecords(t.Context(), r), "exposure.lost", "/mnt/db", id.String(), "umbra unexpose "+id.String(), "umbra expose "+id.String()+" /mnt/db")
	r.mounted["/mnt/db"] = true
	if fs := ExamineRecords(t.Context(), r); len(fs) != 0 {
		t.Errorf("a copy that is well: %+v", fs)
	}
	r.at = Attached{Trouble: "its iSCSI session is FAILED", Who: "session 3", Help: "iscsiadm -m session -r 3 -P 1"}
	one(t, ExamineRecords(t.Context(), r), "attachment.dead", "/dev/loop7", "FAILED", "session 3", "iscsiadm")
	r.at = Attached{Missing: true}
	one(t, ExamineRecords(t.Context(), r), "copy.missing", id.String(), "/srv/db", "systemctl restart umbra")
	r.at = Attached{}
	if err := r.c.Update(t.Context(), func(t *catalog.Tx) error { c.BootID = "an earlier one"; return t.PutCopy(c) }); err != nil {
		t.Fatal(err)
	}
	one(t, ExamineRecords(t.Context(), r), "copy.missing", id.String())
}

func TestUnreadable(t *testing.T) {
	r := &records{err: &vss.Error{Code: vss.VSS_E_UNEXPECTED, Object: "/var/lib/umbra/catalog.db", Reason: "it is damaged"}}
	f := one(t, ExamineRecords(t.Context(), r), "catalog.unreadable", "/var/lib/umbra/catalog.db", "it is damaged")
	if !strings.Contains(f.Help, "operations.md") {
		t.Error(f.Help)
	}
}
