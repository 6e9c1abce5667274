package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/vss"
)

// Records is what is on record, and what this machine has of it.
type Records interface {
	View(func(*catalog.Tx) error) error
	// Busy reports whether an operation works on the set now.
	Busy(set vss.ID) bool
	// Mounted reports whether something is mounted on exactly this folder.
	Mounted(path string) (bool, error)
	// Attached is what is wrong with the way to a LUN's device: "" if nothing is
	// known to be. Missing says that there is no such device.
	Attached(a catalog.Attachment) Attached
	BootID() string
}

// Attached is a look at an attachment.
type Attached struct {
	Missing bool
	Trouble string
	Who     string
	Help    string
}

// ExamineRecords runs the checks of what is on record.
func ExamineRecords(ctx context.Context, r Records) []Finding {
	return examine(ctx, r, []check[Records]{
		{"catalogue", readable}, {"orphaned LUNs", orphans}, {"imports", imports}, {"creations", creations}, {"exposures", exposures}, {"attachments", attachments},
	})
}

// readable finds a catalogue that cannot be read, for all the others.
func readable(_ context.Context, r Records) []Finding {
	err := r.View(func(t *catalog.Tx) error {
		_, err := t.Sets()
		return err
	})
	if err == nil {
		return nil
	}
	f := find("catalog.unreadable", "the catalogue")
	e := vss.AsError("", err)
	f.What, f.Help = e.Why(), "see docs/operations.md, The daemon does not start"
	if e.Object != "" {
		f.Object = e.Object
	}
	return []Finding{f}
}

// orphans finds LUNs that nobody owns.
func orphans(_ context.Context, r Records) (out []Finding) {
	_ = r.View(func(t *catalog.Tx) error {
		luns, err := t.LUNs()
		for _, l := range luns {
			if l.State != catalog.LUNOrphaned || r.Busy(l.SetID) {
				continue
			}
			f := find("lun.orphaned", l.Name)
			f.What, f.Help = "a failed import of set "+l.SetID.String()+" left it: "+l.Reason, "umbra cleanup "+l.SetID.String()
			if s, found, _ := t.Set(catalog.Imported, l.SetID); found {
				f.Since, f.Who = s.Begun, session(s.Session, "", 0)
			}
			out = append(out, f)
		}
		return err
	})
	return out
}

// imports finds those that failed and are not cleaned up, or never ended.
func imports(_ context.Context, r Records) (out []Finding) {
	_ = r.View(func(t *catalog.Tx) error {
		sets, err := t.Sets()
		for _, s := range sets {
			switch {
			case s.Role != catalog.Imported || r.Busy(s.ID):
				continue
			case s.State == catalog.SetImporting, s.State == catalog.SetImportFailed, s.State == catalog.SetPartial:
			default:
				continue
			}
			luns, err := t.LUNsOf(s.ID)
			if err != nil {
				return err
			}
			left := 0
			for _, l := range luns {
				if l.State == catalog.LUNOrphaned || l.State == catalog.LUNUnmasking {
					left++
				}
			}
			if left == 0 {
				continue
			}
			f := find("import.broken", "set "+s.ID.String())
			f.Since, f.Who, f.Help = s.Begun, session(s.Session, "", 0), "umbra cleanup "+s.ID.String()
			f.What = fmt.Sprintf("it is %s, and %d of its LUNs may still be unmasked to this machine", s.State, left)
			if s.Failure != nil {
				f.What += ": " + s.Failure.Reason
			}
			out = append(out, f)
		}
		return err
	})
	return out
}

// creations finds intents of creations that nobody works on: what they made on
// the array could not be dropped.
func creations(_ context.Context, r Records) (out []Finding) {
	_ = r.View(func(t *catalog.Tx) error {
		all, err := t.Intents()
		for _, in := range all {
			if in.Kind != "create" || r.Busy(in.SetID) {
				continue
			}
			f := find("create.left", "set "+in.SetID.String())
			f.Since, f.Who, f.What, f.Help = in.Begun, session(in.Session, "", 0), "the array could not be told to drop it", "umbra list arrays"
			out = append(out, f)
		}
		return err
	})
	return out
}

// exposures finds copies that are exposed where nothing is.
func exposures(_ context.Context, r Records) (out []Finding) {
	for _, c := range copies(r) {
		at := c.Prop.ExposedPath
		if c.Prop.Attributes.Has(vss.ATTR_EXPOSED_LOCALLY) {
			at = c.Prop.ExposedName
		}
		if !c.Prop.Attributes.Has(vss.ATTR_EXPOSED_LOCALLY) || at == "" || c.BootID != r.BootID() || r.Busy(c.Prop.SnapshotSetID) {
			continue
		}
		if there, err := r.Mounted(at); err != nil || there {
			continue
		}
		id := c.Prop.SnapshotID.String()
		f := find("exposure.lost", at)
		f.What, f.Help = "copy "+id+" of "+c.Prop.OriginalVolumeName+" is exposed there, and not mounted", "umbra unexpose "+id+" && umbra expose "+id+" "+at
		out = append(out, f)
	}
	return out
}

func copies(r Records) (all []catalog.Copy) {
	_ = r.View(func(t *catalog.Tx) (err error) {
		all, err = t.Copies()
		return err
	})
	return all
}

// attachments finds copies whose devices are gone or do not work.
func attachments(ctx context.Context, r Records) (out []Finding) {
	for _, c := range copies(r) {
		if r.Busy(c.Prop.SnapshotSetID) {
			continue
		}
		id := c.Prop.SnapshotID.String()
		for _, a := range c.Attachments {
			if ctx.Err() != nil {
				return out
			}
			at := Attached{Missing: true}
			if c.BootID == r.BootID() {
				at = r.Attached(a)
			}
			switch {
			case at.Missing:
				f := find("copy.missing", "copy "+id+" of "+c.Prop.OriginalVolumeName)
				f.What, f.Help = "its LUN "+a.LUN.Name()+" is not attached here any more", "systemctl restart umbra"
				out = append(out, f)
			case at.Trouble != "":
				f := find("attachment.dead", a.LUN.Name())
				f.What = a.Device + " of copy " + id + ": " + at.Trouble
				f.Who, f.Help = at.Who, strings.ReplaceAll(at.Help, "COPY", id)
				out = append(out, f)
			}
		}
	}
	return out
}

// Since is a time with its distance, for tables.
func Since(t, now time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	return t.Local().Format("2006-01-02 15:04:05") + " (" + now.Sub(t).Round(time.Second).String() + ")"
}
