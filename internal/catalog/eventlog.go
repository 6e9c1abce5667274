package catalog

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/umbra-vss/umbra/vss"
)

// Limits of the event log: how many entries it keeps, and how many may wait
// in memory while writes are held.
const (
	maxEvents       = 10000
	maxQueuedEvents = 256
)

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
	v, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	if err := b.Put(seqKey(n), v); err != nil {
		return "", err
	}
	if n > maxEvents {
		return e.ID, b.Delete(seqKey(n - maxEvents))
	}
	return e.ID, nil
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
			id, err = (&Tx{tx}).AddEvent(e)
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

// Events lists the newest events first: all, of one set, or the one with id.
// limit 0 means 100.
func (t *Tx) Events(id string, set vss.ID, limit int) ([]Event, error) {
	if limit <= 0 {
		limit = 100
	}
	b := t.tx.Bucket(bucketEvents)
	var out []Event
	c := b.Cursor()
	for k, v := c.Last(); k != nil && len(out) < limit; k, v = c.Prev() {
		var e Event
		if err := json.Unmarshal(v, &e); err != nil {
			return nil, err
		}
		if (id != "" && e.ID != id) || (!set.IsNull() && e.SetID != set) {
			continue
		}
		out = append(out, e)
	}
	return out, nil
}
