package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// Limits of the event log: how many entries it keeps, in what batches it drops
// older ones, how long an entry's texts may be (a panic's stack is long), and
// how many entries may wait in memory while writes are held. So the log is at
// most a few times 10 MB, whatever happens; its room in the file is used again.
const (
	maxEvents       = 10000
	trimEvery       = 256
	maxEventText    = 8 << 10
	maxQueuedEvents = 256
)

// MaxEvents is how many events are kept at least, and how many FindEvents gives
// at most.
const MaxEvents = maxEvents

// AddEvent appends an event within the transaction and returns its ID.
func (t *Tx) AddEvent(e Event) (string, error) {
	b := t.tx.Bucket(bucketEvents)
	n, err := b.NextSequence()
	if err != nil {
		return "", err
	}
	e.ID = strconv.FormatUint(n, 10)
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.complete()
	v, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	if err := b.Put(seqKey(n), v); err != nil {
		return "", err
	}
	if t.onEvent != nil {
		t.tx.OnCommit(func() { t.onEvent(e) })
	}
	if n > maxEvents && n%trimEvery == 0 {
		return e.ID, trim(b, n-maxEvents)
	}
	return e.ID, nil
}

// complete gives an event what its kind says, and cuts what is too long.
func (e *Event) complete() {
	if k, ok := KindOf(e.Name); ok {
		e.Number, e.Level = k.Number, string(k.Level)
	}
	e.Message, e.Object = cut(e.Message), cut(e.Object)
	if e.Failure != nil {
		f := *e.Failure
		f.Op, f.Object, f.Reason, f.Remedy = cut(f.Op), cut(f.Object), cut(f.Reason), cut(f.Remedy)
		e.Failure = &f
	}
}

func cut(s string) string {
	if len(s) <= maxEventText {
		return s
	}
	return strings.ToValidUTF8(s[:maxEventText], "") + " (cut)"
}

// trim drops every event up to number last.
func trim(b *bbolt.Bucket, last uint64) error {
	c := b.Cursor()
	for k, _ := c.First(); k != nil && bytes.Compare(k, seqKey(last)) <= 0; k, _ = c.First() {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// Log appends an event. While writes are held it is queued (and has no ID
// yet); the caller is never delayed by a hold.
func (c *Catalog) Log(ctx context.Context, e Event) (string, error) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	for !c.queued(e) {
		leave, ok := c.gate.tryEnter()
		if !ok {
			continue // a hold has begun in between
		}
		defer leave()
		var id string
		err := c.db.Update(func(tx *bbolt.Tx) (err error) {
			id, err = c.tx(tx).AddEvent(e)
			return err
		})
		return id, err
	}
	return "", nil
}

// queued keeps an event for later if writes are held now, or about to be.
func (c *Catalog) queued(e Event) bool {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.gate.shut == nil {
		return false
	}
	if len(c.queue) >= maxQueuedEvents {
		c.dropped++
	} else {
		c.queue = append(c.queue, e)
	}
	return true
}

// flushLater writes queued events in the background: the release of the
// volumes never waits for that.
func (c *Catalog) flushLater() {
	c.flushes.Add(1)
	go func() {
		defer c.flushes.Done()
		_ = c.flushEvents()
	}()
}

// flushEvents writes what was queued during a hold. What cannot be written
// stays queued.
func (c *Catalog) flushEvents() error {
	c.gate.mu.Lock()
	q, dropped := c.queue, c.dropped
	c.queue, c.dropped = nil, 0
	c.gate.mu.Unlock()
	if len(q) == 0 && dropped == 0 {
		return nil
	}
	err := c.Update(context.Background(), func(t *Tx) error {
		for _, e := range q {
			if _, err := t.AddEvent(e); err != nil {
				return err
			}
		}
		if dropped == 0 {
			return nil
		}
		_, err := t.AddEvent(Event{Level: "warning", Name: "events.dropped",
			Message: strconv.Itoa(dropped) + " events came during a hold and did not fit its queue"})
		return err
	})
	if err != nil {
		c.gate.mu.Lock()
		c.queue, c.dropped = append(q, c.queue...), c.dropped+dropped
		c.gate.mu.Unlock()
	}
	return err
}
