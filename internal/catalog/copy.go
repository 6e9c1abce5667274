package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"

	"github.com/umbra-vss/umbra/vss"
)

// maxCopy bounds the file that OpenCopy copies; the catalogue of a machine with
// thousands of copies has some ten megabytes.
const maxCopy = 1 << 30

// OpenCopy reads the catalogue at path as it was a moment ago, although a daemon
// that hangs may have it open: it takes no lock there and writes nothing. What is
// opened is a copy of the file, which may be torn if the daemon wrote meanwhile;
// that is an error. Only View works on it, and close lets go of it.
func OpenCopy(path string) (c *Catalog, close func(), err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the file is damaged, or was written meanwhile: %v", r)
		}
		if err != nil {
			err = &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "read catalogue", Object: path, Reason: "it cannot be read", Remedy: "Check the disk it is on", Err: err}
		}
	}()
	from, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer from.Close()
	to, err := os.CreateTemp("", "umbra-catalogue-")
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(to.Name())
	n, err := io.Copy(to, io.LimitReader(from, maxCopy))
	if err = errors.Join(err, to.Close()); err != nil {
		return nil, nil, err
	}
	if n == maxCopy {
		return nil, nil, errors.New("it is too large")
	}
	db, err := bbolt.Open(to.Name(), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, nil, err
	}
	if err := db.View(sound); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return &Catalog{db: db}, func() { _ = db.Close() }, nil
}

// sound reads all there is, so that what is damaged is found here.
func sound(tx *bbolt.Tx) error {
	if n, err := schemaOf(tx); err != nil || n != Schema {
		return errors.Join(err, fmt.Errorf("it is of schema %d, this version reads %d", n, Schema))
	}
	return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
		return b.ForEach(func(_, v []byte) error {
			if len(v) > 0 {
				_ = v[len(v)-1]
			}
			return nil
		})
	})
}
