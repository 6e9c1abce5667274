package catalog

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/umbra-vss/umbra/vss"
)

var (
	bucketSets      = []byte("sets")
	bucketCopies    = []byte("copies")
	bucketLUNs      = []byte("luns")
	bucketOriginals = []byte("originals")
	bucketIntents   = []byte("intents")
	bucketEvents    = []byte("events")
	bucketProviders = []byte("providers")
)

// Catalog is an open catalogue.
type Catalog struct {
	db *bbolt.DB

	gate gate

	// Events that came during a hold, or while one began. Guarded by gate.mu, so
	// that an event that saw the hold is queued before the hold's end is seen.
	queue   []Event
	dropped int

	// OnEvent is told of every event when it is durable, and never during a
	// hold: a hold waits until it returns, so it must be quick. It is set before
	// the catalogue is used, and called from several goroutines.
	OnEvent func(Event)

	reads   atomic.Int64   // of records, since the mapping was let go
	flushes sync.WaitGroup // of queued events, in the background
}

// Open opens or makes the catalogue at path. A file that another daemon has
// open is VSS_E_OBJECT_ALREADY_EXISTS; a file that is not a catalogue, or a
// newer version's, is VSS_E_UNEXPECTED, and is left as it is.
func Open(path string) (*Catalog, error) {
	fail := func(code vss.HResult, reason, remedy string, err error) error {
		return &vss.Error{Code: code, Op: "open catalogue", Object: path, Reason: reason, Remedy: remedy, Err: err}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fail(vss.E_ACCESSDENIED, "its folder cannot be made", "Run the daemon as root, or choose another --state-dir", err)
	}
	db, err := open(path)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fail(vss.VSS_E_OBJECT_ALREADY_EXISTS, "another daemon has it open", "Give each daemon a --state-dir of its own", err)
	case errors.Is(err, errNewer):
		return nil, fail(vss.VSS_E_UNEXPECTED, "a newer version of Umbra wrote it", "Install that version again, or give this one a --state-dir of its own", err)
	case err != nil:
		return nil, fail(vss.VSS_E_UNEXPECTED, "it cannot be opened or written", "Check the disk it is on; restore it from a backup, or move it away to start with an empty one", err)
	}
	return &Catalog{db: db}, nil
}

// open opens the file and gives it this version's form. A file that was cut short or
// damaged makes bbolt panic or touch a page that is not there; both are errors
// here.
func open(path string) (db *bbolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("the file is damaged: %v", r)
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	// Looked at first without a transaction that writes: a file that is refused
	// is left as it is.
	if err = db.View(func(tx *bbolt.Tx) error { _, err := schemaOf(tx); return err }); err == nil {
		err = db.Update(upgrade)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Close flushes queued events and closes the file. Nothing may be held any
// more, and no other method may be called after it.
func (c *Catalog) Close() error {
	c.flushes.Wait()
	return errors.Join(c.flushEvents(), c.db.Close())
}

// Hold closes the write gate and returns the function that opens it again.
// It waits for a transaction that is under way, at most until ctx ends. Only
// one hold exists at a time, because only one set is created at a time.
func (c *Catalog) Hold(ctx context.Context) (release func(), err error) {
	open, err := c.gate.hold(ctx)
	if err != nil {
		c.flushLater() // what was queued while it was tried
		return nil, err
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			open()
			c.flushLater()
		})
	}, nil
}

// Update runs fn in one durable transaction; when it returns nil the change
// is on disk. It waits while writes are held, or until ctx ends. fn must not
// call the Catalog itself.
func (c *Catalog) Update(ctx context.Context, fn func(*Tx) error) error {
	leave, err := c.gate.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return c.db.Update(func(tx *bbolt.Tx) error { return fn(c.tx(tx)) })
}

// View runs fn in a read-only transaction; it never waits.
func (c *Catalog) View(fn func(*Tx) error) error {
	return c.db.View(func(tx *bbolt.Tx) error { return fn(c.tx(tx)) })
}

// Tx is one transaction. It is valid only inside the function it was given to.
type Tx struct {
	tx      *bbolt.Tx
	onEvent func(Event)
	reads   *atomic.Int64
}

func (c *Catalog) tx(tx *bbolt.Tx) *Tx { return &Tx{tx, c.OnEvent, &c.reads} }

func put(tx *bbolt.Tx, bucket []byte, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put([]byte(key), b)
}

// get decodes one record; found is false when there is none.
func get[T any](t *Tx, bucket []byte, key string) (v T, found bool, err error) {
	b := t.tx.Bucket(bucket).Get([]byte(key))
	if b == nil {
		return v, false, nil
	}
	defer t.looked()
	if err := json.Unmarshal(b, &v); err != nil {
		return v, false, fmt.Errorf("catalogue record %s/%s: %w", bucket, key, err)
	}
	return v, true, nil
}

func all[T any](t *Tx, bucket []byte) (out []T, err error) {
	for v, err := range each[T](t, bucket, nil) {
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// each yields the records of a bucket in the order of their keys, those after
// one (nil: all). An error is the last it yields. Nothing may be written
// meanwhile.
func each[T any](t *Tx, bucket, after []byte) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		c := t.tx.Bucket(bucket).Cursor()
		for k, b := c.Seek(after); k != nil; k, b = c.Next() {
			if after != nil && bytes.Equal(k, after) {
				continue
			}
			var v T
			err := json.Unmarshal(b, &v)
			if err != nil {
				err = fmt.Errorf("catalogue record %s/%s: %w", bucket, k, err)
			}
			t.looked()
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

func seqKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
