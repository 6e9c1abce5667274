package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/bbolt"

	"github.com/umbra-vss/umbra/vss"
)

// The index answers what would else take a look at every record. Its keys are
// a kind, a digest of the value looked for, and the record's own key; it has no
// values. One bucket holds all kinds, so that a small catalogue's transaction
// writes one page more and not one per kind. It is written where records are,
// in the same transaction, and can be made anew from them at any time.
var bucketIndex = []byte("index")

// Kinds of entries.
const (
	copyBySet     = 's'
	copyByVolume  = 'v'
	copyByLUN     = 'l'
	copyBySession = 'o' // auto-release copies only: what their session's end deletes
	lunBySet      = 'm'
)

const entryHead = 1 + 16 // kind and digest, before the record's key

// entry is the head of all keys with one value. Values are digested because a
// path may be longer than a key is good for; who reads compares the record.
func entry(kind byte, value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return append(append(make([]byte, 0, entryHead+36), kind), sum[:16]...)
}

// asKept is a string as it is read again: JSON has no place for bytes that are
// no text.
func asKept(s string) string { return string([]rune(s)) }

func (c Copy) entries() [][]byte {
	id := c.Prop.SnapshotID
	es := [][]byte{entry(copyBySet, c.Prop.SnapshotSetID.Bare()), entry(copyByVolume, asKept(c.Prop.OriginalVolumeName))}
	if c.AutoRelease {
		es = append(es, entry(copyBySession, c.Session.Bare()))
	}
	for _, a := range c.Attachments {
		es = append(es, entry(copyByLUN, a.LUN.Name()))
	}
	for i := range es {
		es[i] = append(es[i], id[:]...)
	}
	return es
}

func (l LUN) entries() [][]byte {
	return [][]byte{append(entry(lunBySet, l.SetID.Bare()), l.Name...)}
}

type indexed interface{ entries() [][]byte }

// reindex replaces the entries of the record that was there by those of the one
// that is. Either may be nil.
func (t *Tx) reindex(was, is indexed) error {
	b := t.tx.Bucket(bucketIndex)
	old, now := entrySet(was), entrySet(is)
	for e := range old {
		if !now[e] {
			if err := b.Delete([]byte(e)); err != nil {
				return err
			}
		}
	}
	for e := range now {
		if !old[e] {
			if err := b.Put([]byte(e), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// entrySet has each entry once: a copy may lie on a LUN with two of its devices.
func entrySet(r indexed) map[string]bool {
	set := map[string]bool{}
	if r != nil {
		for _, e := range r.entries() {
			set[string(e)] = true
		}
	}
	return set
}

// lookUp yields the keys of the records with a value, in order, those after
// one. Nothing may be written meanwhile.
func (t *Tx) lookUp(kind byte, value string, after []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		head := entry(kind, value)
		c := t.tx.Bucket(bucketIndex).Cursor()
		for k, _ := c.Seek(append(head, after...)); bytes.HasPrefix(k, head); k, _ = c.Next() {
			if key := k[entryHead:]; len(after) > 0 && bytes.Equal(key, after) {
				continue
			} else if !yield(key) {
				return
			}
		}
	}
}

// copiesBy yields the copies with a value, in the order of their IDs, those
// after one.
func (t *Tx) copiesBy(kind byte, value string, after vss.ID) iter.Seq2[Copy, error] {
	var from []byte
	if !after.IsNull() {
		from = after[:]
	}
	return func(yield func(Copy, error) bool) {
		for key := range t.lookUp(kind, value, from) {
			c, err := t.indexedCopy(key)
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

func (t *Tx) indexedCopy(key []byte) (Copy, error) {
	if len(key) != len(vss.ID{}) {
		return Copy{}, fmt.Errorf("the catalogue's index has a copy %x", key)
	}
	c, found, err := t.Copy(vss.ID(key))
	if err == nil && !found {
		err = fmt.Errorf("the catalogue's index has copy %s, which is not there", vss.ID(key))
	}
	return c, err
}

// rebuild makes the index anew from the records.
func (t *Tx) rebuild() error {
	if t.tx.Bucket(bucketIndex) != nil {
		if err := t.tx.DeleteBucket(bucketIndex); err != nil {
			return err
		}
	}
	b, err := t.tx.CreateBucket(bucketIndex)
	if err != nil {
		return err
	}
	return errors.Join(indexAll[Copy](t, b, bucketCopies), indexAll[LUN](t, b, bucketLUNs))
}

func indexAll[T indexed](t *Tx, index *bbolt.Bucket, bucket []byte) error {
	for r, err := range each[T](t, bucket, nil) {
		if err != nil {
			return err
		}
		for _, e := range r.entries() {
			if err := index.Put(e, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
