package catalog

import (
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

// Schema is the form of the file. 1 had no index and did not say what it is.
const Schema = 2

var (
	bucketMeta = []byte("meta")
	keySchema  = []byte("schema")
)

// errNewer is a file that a later Umbra wrote: what it means by its records is
// not known here, and an index it keeps would not be kept.
var errNewer = errors.New("a newer schema")

// schemaOf reads the form of a file, 0 for one that is empty.
func schemaOf(tx *bbolt.Tx) (int, error) {
	b := tx.Bucket(bucketMeta)
	if b == nil {
		if tx.Bucket(bucketSets) == nil {
			return 0, nil
		}
		return 1, nil
	}
	n, err := strconv.Atoi(string(b.Get(keySchema)))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("the file says schema %q", b.Get(keySchema))
	}
	if n > Schema {
		return n, fmt.Errorf("%w: %d, this version reads up to %d", errNewer, n, Schema)
	}
	return n, nil
}

// upgrade gives the file this version's form.
func upgrade(tx *bbolt.Tx) error {
	n, err := schemaOf(tx)
	if err != nil {
		return err
	}
	for _, b := range [][]byte{bucketSets, bucketCopies, bucketLUNs, bucketOriginals, bucketIntents, bucketEvents, bucketProviders} {
		if _, err := tx.CreateBucketIfNotExists(b); err != nil {
			return err
		}
	}
	if n < Schema || tx.Bucket(bucketIndex) == nil {
		if err := (&Tx{tx: tx}).rebuild(); err != nil {
			return err
		}
	}
	meta, err := tx.CreateBucketIfNotExists(bucketMeta)
	if err != nil {
		return err
	}
	return meta.Put(keySchema, strconv.AppendInt(nil, Schema, 10))
}
