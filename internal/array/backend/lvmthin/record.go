package lvmthin

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// record is a LUN: a number in the pool.
type record struct {
	ID   uint32
	Size uint64
	Gone bool `json:",omitempty"` // deleted, and still open somewhere
}

// poolRecord is which pool it is.
type poolRecord struct {
	Transaction uint64 // what the pool's superblock says; ours alone
	Formatting  bool   `json:",omitempty"` // the devices were found empty, the pool may be half made
	Next        uint32 // the next number
}

// maxID is the last number of a thin device: 24 bits.
const maxID = 1<<24 - 1

var (
	bucketLUNs = []byte("luns")
	bucketPool = []byte("pool")
)

// records is the map from LUNs to numbers, in memory and on disk. The store's
// lock guards it.
type records struct {
	db   *bbolt.DB
	luns map[lun.NAA]record
	pool poolRecord
}

func openRecords(dir string) (*records, error) {
	path := filepath.Join(dir, "lvmthin.db")
	fail := func(reason, remedy string, err error) (*records, error) {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "open store", Object: path, Reason: reason, Remedy: remedy, Err: err}
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return fail("the record of LUNs cannot be opened", "End the other array that uses this folder, or restore the file from a backup", err)
	}
	r := &records{db: db, luns: map[lun.NAA]record{}}
	err = db.Update(func(tx *bbolt.Tx) error {
		luns, err := tx.CreateBucketIfNotExists(bucketLUNs)
		if err != nil {
			return err
		}
		pool, err := tx.CreateBucketIfNotExists(bucketPool)
		if err != nil {
			return err
		}
		if v := pool.Get(bucketPool); v != nil {
			if err := json.Unmarshal(v, &r.pool); err != nil {
				return err
			}
		}
		return luns.ForEach(func(k, v []byte) error {
			n, err := lun.ParseNAA(string(k))
			if err != nil {
				return err
			}
			var l record
			if err := json.Unmarshal(v, &l); err != nil {
				return err
			}
			r.luns[n] = l
			return nil
		})
	})
	if err != nil {
		return fail("the record of LUNs cannot be read", "Restore the file from a backup", errors.Join(err, db.Close()))
	}
	return r, nil
}

// change is durable when it returns; a nil record is dropped.
func (r *records) change(pool poolRecord, luns map[lun.NAA]*record) error {
	err := r.db.Update(func(tx *bbolt.Tx) error {
		b, err := json.Marshal(pool)
		if err == nil {
			err = tx.Bucket(bucketPool).Put(bucketPool, b)
		}
		for n, l := range luns {
			if err != nil {
				return err
			}
			key := []byte(n.String())
			if l == nil {
				err = tx.Bucket(bucketLUNs).Delete(key)
				continue
			}
			if b, err = json.Marshal(l); err == nil {
				err = tx.Bucket(bucketLUNs).Put(key, b)
			}
		}
		return err
	})
	if err != nil {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "record LUNs", Object: r.db.Path(), Reason: "it cannot be written", Remedy: "Check the filesystem of the array's folder", Err: err}
	}
	r.pool = pool
	for n, l := range luns {
		if l == nil {
			delete(r.luns, n)
		} else {
			r.luns[n] = *l
		}
	}
	return nil
}
