package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// TestGate: the gate alone, in a bubble's time.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		open, err := g.hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		entered := make(chan time.Time, 1)
		go func() {
			leave, err := g.enter(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			entered <- time.Now()
			leave()
		}()
		// One that is given up while it waits.
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := g.enter(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
			t.Errorf("given up with %v after %v", err, time.Since(begin))
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if len(entered) != 0 {
			t.Fatal("entered while held")
		}
		open()
		if at := <-entered; at.Sub(begin) != 10*time.Second {
			t.Errorf("entered after %v", at.Sub(begin))
		}

		// A hold waits for what is inside, and can be given up without closing the gate.
		leave, _ := g.enter(t.Context())
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.hold(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hold beside a transaction: %v", err)
		}
		leave()
		synctest.Wait()
		if leave, ok := g.tryEnter(); !ok {
			t.Error("a hold that was given up closed the gate")
		} else {
			leave()
		}
		// While it waits nobody new gets in, or it would wait for ever.
		leave, _ = g.enter(t.Context())
		held := make(chan func(), 1)
		go func() { open, _ := g.hold(t.Context()); held <- open }()
		synctest.Wait()
		if _, ok := g.tryEnter(); ok {
			t.Error("entered before a hold that waits")
		}
		leave()
		(<-held)()
	})
}

// TestHold: with the file. Reading goes on, writing waits, events are queued
// and written after, and releasing waits for nobody.
func TestHold(t *testing.T) {
	c, _ := openTest(t)
	release, err := c.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Update(ctx, func(*Tx) error { t.Error("a transaction ran during a hold"); return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("update while held: %v", err)
	}
	if err := c.View(func(tx *Tx) error { _, err := tx.Events("", vss.GUIDNull, 0); return err }); err != nil {
		t.Error(err)
	}
	for i := range maxQueuedEvents + 5 {
		begin := time.Now()
		id, err := c.Log(t.Context(), Event{Level: "info", Name: "queued", Message: fmt.Sprint(i)})
		if id != "" || err != nil || time.Since(begin) > time.Second {
			t.Fatalf("log while held: %q, %v after %v", id, err, time.Since(begin))
		}
	}
	begin := time.Now()
	release()
	if d := time.Since(begin); d > 100*time.Millisecond {
		t.Errorf("release took %v", d)
	}
	release() // again is nothing
	c.flushes.Wait()
	_ = c.View(func(tx *Tx) error {
		es, err := tx.Events("", vss.GUIDNull, 1000)
		if err != nil || len(es) != maxQueuedEvents+1 || es[0].Name != "events.dropped" || es[len(es)-1].Message != "0" {
			t.Errorf("%d events, %v", len(es), err)
		}
		return nil
	})
	if id, err := c.Log(t.Context(), Event{Name: "after"}); id == "" || err != nil {
		t.Errorf("log after: %q, %v", id, err)
	}
}

// TestNoEventIsLost: events that come just when holds begin and end are all
// there at the end, and none came with a delay.
func TestNoEventIsLost(t *testing.T) {
	c, path := openTest(t)
	var wg sync.WaitGroup
	const writers, each = 4, 50
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := c.Log(t.Context(), Event{Name: "e", Message: fmt.Sprintf("%d/%d", w, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan struct{})
	var holds sync.WaitGroup
	holds.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			release, err := c.Hold(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(200 * time.Microsecond)
			release()
		}
	})
	wg.Wait()
	close(stop)
	holds.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.View(func(tx *Tx) error {
		es, _ := tx.Events("", vss.GUIDNull, 10000)
		n := 0
		for _, e := range es {
			if e.Name == "e" {
				n++
			}
		}
		if n != writers*each {
			t.Errorf("%d of %d events", n, writers*each)
		}
		return nil
	})
}
