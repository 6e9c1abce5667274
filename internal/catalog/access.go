package catalog

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func setKey(role Role, id vss.ID) string { return string(role) + "/" + id.Bare() }

// PutSet files a set under its role and ID.
func (t *Tx) PutSet(s Set) error { return put(t.tx, bucketSets, setKey(s.Role, s.ID), s) }

// Set returns the set, found false if there is none.
func (t *Tx) Set(role Role, id vss.ID) (s Set, found bool, err error) {
	return get[Set](t, bucketSets, setKey(role, id))
}

// DeleteSet forgets a set.
func (t *Tx) DeleteSet(role Role, id vss.ID) error {
	return t.tx.Bucket(bucketSets).Delete([]byte(setKey(role, id)))
}

// Sets lists all sets, created before imported.
func (t *Tx) Sets() ([]Set, error) { return all[Set](t, bucketSets) }

// SetsAfter yields the sets in the same order, from the one after place, which
// is [Set.Place] of one, or empty. Nothing may be written meanwhile.
func (t *Tx) SetsAfter(place string) iter.Seq2[Set, error] {
	return each[Set](t, bucketSets, []byte(place))
}

// Place is where the set stands among all sets.
func (s Set) Place() string { return setKey(s.Role, s.ID) }

// PutCopy files a copy under its ID.
func (t *Tx) PutCopy(c Copy) error {
	if err := t.reindexCopy(c.Prop.SnapshotID, c); err != nil {
		return err
	}
	return put(t.tx, bucketCopies, c.Prop.SnapshotID.Bare(), c)
}

func (t *Tx) reindexCopy(id vss.ID, is indexed) error {
	was, found, err := t.Copy(id)
	if err != nil {
		return err
	}
	if !found {
		return t.reindex(nil, is)
	}
	return t.reindex(was, is)
}

// Copy returns the copy, found false if there is none.
func (t *Tx) Copy(id vss.ID) (c Copy, found bool, err error) {
	return get[Copy](t, bucketCopies, id.Bare())
}

// DeleteCopy forgets a copy.
func (t *Tx) DeleteCopy(id vss.ID) error {
	if err := t.reindexCopy(id, nil); err != nil {
		return err
	}
	return t.tx.Bucket(bucketCopies).Delete([]byte(id.Bare()))
}

// Copies lists all copies on this machine.
func (t *Tx) Copies() ([]Copy, error) { return all[Copy](t, bucketCopies) }

// CopyFilter says which copies are meant: those of a set, of a volume, of both.
// The zero filter means all.
type CopyFilter struct {
	Set    vss.ID
	Volume string // name of the original, as the copy has it
}

func (f CopyFilter) matches(c Copy) bool {
	return (f.Set.IsNull() || c.Prop.SnapshotSetID == f.Set) && (f.Volume == "" || c.Prop.OriginalVolumeName == asKept(f.Volume))
}

// CopiesAfter yields the copies that match, in the order of their IDs, from the
// one after an ID (GUID_NULL: all). It looks at no others unless the filter is
// empty. An error is the last it yields. Nothing may be written meanwhile.
func (t *Tx) CopiesAfter(after vss.ID, f CopyFilter) iter.Seq2[Copy, error] {
	var found iter.Seq2[Copy, error]
	switch {
	case !f.Set.IsNull():
		found = t.copiesBy(copyBySet, f.Set.Bare(), after)
	case f.Volume != "":
		found = t.copiesBy(copyByVolume, asKept(f.Volume), after)
	case after.IsNull():
		return each[Copy](t, bucketCopies, nil)
	default:
		return each[Copy](t, bucketCopies, []byte(after.Bare()))
	}
	return func(yield func(Copy, error) bool) {
		for c, err := range found {
			if err == nil && !f.matches(c) {
				continue
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// CopiesOf lists the copies of one set that exist on this machine.
func (t *Tx) CopiesOf(set vss.ID) ([]Copy, error) {
	return listed(t.copiesBy(copyBySet, set.Bare(), vss.GUIDNull), func(c Copy) bool { return c.Prop.SnapshotSetID == set })
}

// CopiesOn lists the copies that lie on a LUN.
func (t *Tx) CopiesOn(lun string) ([]Copy, error) {
	return listed(t.copiesBy(copyByLUN, lun, vss.GUIDNull), func(c Copy) bool {
		return slices.ContainsFunc(c.Attachments, func(a Attachment) bool { return a.LUN.Name() == lun })
	})
}

// AutoReleased lists the copies that end with a session.
func (t *Tx) AutoReleased(session vss.ID) ([]Copy, error) {
	return listed(t.copiesBy(copyBySession, session.Bare(), vss.GUIDNull), func(c Copy) bool { return c.AutoRelease && c.Session == session })
}

func listed[T any](found iter.Seq2[T, error], matches func(T) bool) (out []T, err error) {
	for v, err := range found {
		if err != nil {
			return out, err
		}
		if matches(v) {
			out = append(out, v)
		}
	}
	return out, nil
}

// PutLUN files a LUN under its name.
func (t *Tx) PutLUN(l LUN) error {
	if err := t.reindexLUN(l.Name, l); err != nil {
		return err
	}
	return put(t.tx, bucketLUNs, l.Name, l)
}

func (t *Tx) reindexLUN(name string, is indexed) error {
	was, found, err := t.LUN(name)
	if err != nil {
		return err
	}
	if !found {
		return t.reindex(nil, is)
	}
	return t.reindex(was, is)
}

// LUN returns the LUN, found false if there is none.
func (t *Tx) LUN(name string) (l LUN, found bool, err error) {
	return get[LUN](t, bucketLUNs, name)
}

// DeleteLUN forgets a LUN.
func (t *Tx) DeleteLUN(name string) error {
	if err := t.reindexLUN(name, nil); err != nil {
		return err
	}
	return t.tx.Bucket(bucketLUNs).Delete([]byte(name))
}

// LUNs lists all LUNs imports touched.
func (t *Tx) LUNs() ([]LUN, error) { return all[LUN](t, bucketLUNs) }

// LUNsOf lists the LUNs that imports of one set touched.
func (t *Tx) LUNsOf(set vss.ID) (out []LUN, err error) {
	for name := range t.lookUp(lunBySet, set.Bare(), nil) {
		l, found, err := t.LUN(string(name))
		if err == nil && !found {
			err = fmt.Errorf("the catalogue's index has LUN %s, which is not there", name)
		}
		if err != nil {
			return out, err
		}
		if l.SetID == set {
			out = append(out, l)
		}
	}
	return out, nil
}

// PutOriginal files a LUN that is no copy under its name.
func (t *Tx) PutOriginal(l lun.Info) error { return put(t.tx, bucketOriginals, l.Name(), l) }

// DeleteOriginal forgets an original; one that is not there is fine.
func (t *Tx) DeleteOriginal(name string) error {
	return t.tx.Bucket(bucketOriginals).Delete([]byte(name))
}

// Originals lists the originals this machine was let see.
func (t *Tx) Originals() ([]lun.Info, error) { return all[lun.Info](t, bucketOriginals) }

// OpenIntent files an intent and returns it with its number.
func (t *Tx) OpenIntent(i Intent) (Intent, error) {
	b := t.tx.Bucket(bucketIntents)
	n, err := b.NextSequence()
	if err != nil {
		return i, err
	}
	i.ID = n
	v, err := json.Marshal(i)
	if err != nil {
		return i, err
	}
	return i, b.Put(seqKey(n), v)
}

// CloseIntent removes an intent; one that is gone is fine.
func (t *Tx) CloseIntent(id uint64) error { return t.tx.Bucket(bucketIntents).Delete(seqKey(id)) }

// Intents lists open intents, oldest first.
func (t *Tx) Intents() ([]Intent, error) { return all[Intent](t, bucketIntents) }
