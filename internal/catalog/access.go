package catalog

import (
	"encoding/json"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func setKey(role Role, id vss.ID) string { return string(role) + "/" + id.Bare() }

// PutSet files a set under its role and ID.
func (t *Tx) PutSet(s Set) error { return put(t.tx, bucketSets, setKey(s.Role, s.ID), s) }

// Set returns the set, found false if there is none.
func (t *Tx) Set(role Role, id vss.ID) (s Set, found bool, err error) {
	return get[Set](t.tx, bucketSets, setKey(role, id))
}

// DeleteSet forgets a set.
func (t *Tx) DeleteSet(role Role, id vss.ID) error {
	return t.tx.Bucket(bucketSets).Delete([]byte(setKey(role, id)))
}

// Sets lists all sets, created before imported.
func (t *Tx) Sets() ([]Set, error) { return all[Set](t.tx, bucketSets) }

// PutCopy files a copy under its ID.
func (t *Tx) PutCopy(c Copy) error { return put(t.tx, bucketCopies, c.Prop.SnapshotID.Bare(), c) }

// Copy returns the copy, found false if there is none.
func (t *Tx) Copy(id vss.ID) (c Copy, found bool, err error) {
	return get[Copy](t.tx, bucketCopies, id.Bare())
}

// DeleteCopy forgets a copy.
func (t *Tx) DeleteCopy(id vss.ID) error { return t.tx.Bucket(bucketCopies).Delete([]byte(id.Bare())) }

// Copies lists all copies on this machine.
func (t *Tx) Copies() ([]Copy, error) { return all[Copy](t.tx, bucketCopies) }

// CopiesOf lists the copies of one set that exist on this machine.
func (t *Tx) CopiesOf(set vss.ID) ([]Copy, error) {
	cs, err := t.Copies()
	var out []Copy
	for _, c := range cs {
		if c.Prop.SnapshotSetID == set {
			out = append(out, c)
		}
	}
	return out, err
}

// PutLUN files a LUN under its name.
func (t *Tx) PutLUN(l LUN) error { return put(t.tx, bucketLUNs, l.Name, l) }

// LUN returns the LUN, found false if there is none.
func (t *Tx) LUN(name string) (l LUN, found bool, err error) {
	return get[LUN](t.tx, bucketLUNs, name)
}

// DeleteLUN forgets a LUN.
func (t *Tx) DeleteLUN(name string) error { return t.tx.Bucket(bucketLUNs).Delete([]byte(name)) }

// LUNs lists all LUNs imports touched.
func (t *Tx) LUNs() ([]LUN, error) { return all[LUN](t.tx, bucketLUNs) }

// PutOriginal files a LUN that is no copy under its name.
func (t *Tx) PutOriginal(l lun.Info) error { return put(t.tx, bucketOriginals, l.Name(), l) }

// DeleteOriginal forgets an original; one that is not there is fine.
func (t *Tx) DeleteOriginal(name string) error {
	return t.tx.Bucket(bucketOriginals).Delete([]byte(name))
}

// Originals lists the originals this machine was let see.
func (t *Tx) Originals() ([]lun.Info, error) { return all[lun.Info](t.tx, bucketOriginals) }

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
func (t *Tx) Intents() ([]Intent, error) { return all[Intent](t.tx, bucketIntents) }
