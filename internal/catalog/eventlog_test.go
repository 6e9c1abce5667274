package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/umbra-vss/umbra/vss"
)

// TestKinds: a name and a number each mean one thing.
func TestKinds(t *testing.T) {
	names, numbers := map[string]bool{}, map[int]bool{}
	for i, k := range Kinds {
		if names[k.Name] || numbers[k.Number] || k.Number < 100 || !k.Level.Valid() || k.When == "" || strings.Count(k.Name, ".") != 1 {
			t.Errorf("%+v", k)
		}
		if i > 0 && k.Number <= Kinds[i-1].Number {
			t.Errorf("%s is out of order", k.Name)
		}
		names[k.Name], numbers[k.Number] = true, true
		if got, ok := KindOf(k.Name); !ok || got != k {
			t.Errorf("%s is not found", k.Name)
		}
	}
	for name, want := range map[string]bool{"import": true, "import.": true, "import.done": true, "imp": false, "import.don": false, "": false, "done": false} {
		if KnownName(name) != want {
			t.Errorf("%q is known: %v", name, !want)
		}
	}
}

// TestNumbersStay: what is in people's alerts is not used for something else.
func TestNumbersStay(t *testing.T) {
	for name, number := range map[string]int{"create.done": 100, "create.failed": 101, "import.done": 200, "import.partial": 201, "import.failed": 202,
		"import.refused": 203, "import.rules-left": 204, "import.copy-failed": 205, "copy.not-mounted": 300, "delete.done": 310, "delete.failed": 311, "cleanup.masked": 400,
		"cleanup.reclaimed": 401, "cleanup.failed": 402, "recovery.thawed": 500, "recovery.create-dropped": 501, "recovery.import-interrupted": 502,
		"recovery.cleanup-interrupted": 503, "recovery.delete-finished": 504, "recovery.auto-released": 505, "recovery.not-released": 506,
		"recovery.copy-missing": 507, "recovery.copy-found": 508, "recovery.exposure-lost": 509, "recovery.failed": 510,
		"service.unexpected": 900, "service.panic": 901, "provider.unexpected": 902, "events.dropped": 910} {
		if k, ok := KindOf(name); !ok || k.Number != number {
			t.Errorf("%s is %d now, it was %d", name, k.Number, number)
		}
	}
}

// add appends events, each a second after the one before.
func add(t *testing.T, c *Catalog, es ...Event) {
	t.Helper()
	begin := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	err := c.Update(t.Context(), func(tx *Tx) error {
		for i, e := range es {
			e.Time = begin.Add(time.Duration(i) * time.Second)
			if _, err := tx.AddEvent(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFindEvents(t *testing.T) {
	c, _ := openTest(t)
	set, session := vss.NewID(), vss.NewID()
	add(t, c, Event{Name: "create.done", SetID: set}, Event{Name: "import.done", Session: session}, Event{Name: "import.partial", Session: session, SetID: set},
		Event{Name: "import.failed"}, Event{Name: "importer.odd", Level: "info"}, Event{Name: "recovery.thawed", SetID: set})
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 3, 0, s, 0, time.UTC) }
	for _, tt := range []struct {
		q    EventQuery
		want string // numbers of events in the order of the answer
	}{
		{EventQuery{}, "6 5 4 3 2 1"},
		{EventQuery{Limit: 2}, "6 5"},
		{EventQuery{Set: set}, "6 3 1"},
		{EventQuery{Session: session}, "3 2"},
		{EventQuery{Session: session, Set: set}, "3"},
		{EventQuery{Name: "import.done"}, "2"},
		{EventQuery{Name: "import"}, "4 3 2"},
		{EventQuery{Name: "import", Limit: 1}, "4"},
		{EventQuery{Name: "none"}, ""},
		{EventQuery{Level: Info}, "6 5 4 3 2 1"},
		{EventQuery{Level: Warning}, "6 4 3"},
		{EventQuery{Level: Failed}, "4"},
		{EventQuery{Since: at(4)}, "6 5"},
		{EventQuery{Until: at(2)}, "2 1"},
		{EventQuery{Since: at(1), Until: at(4), Level: Warning}, "4 3"},
		{EventQuery{ID: "3"}, "3"},
		{EventQuery{ID: "3", Level: Failed}, ""},
		{EventQuery{ID: "7"}, ""},
		{EventQuery{ID: "x"}, ""},
	} {
		_ = c.View(func(tx *Tx) error {
			es, err := tx.FindEvents(tt.q)
			var got []string
			for _, e := range es {
				got = append(got, e.ID)
			}
			if s := strings.Join(got, " "); s != tt.want || err != nil {
				t.Errorf("%+v gives %q, %v, want %q", tt.q, s, err, tt.want)
			}
			return nil
		})
	}
}

// TestKindIsComplete: number and level come from the kind, also of events that
// were written before there were numbers.
func TestKindIsComplete(t *testing.T) {
	c, _ := openTest(t)
	add(t, c, Event{Name: "import.partial", Level: "info"})
	err := c.Update(t.Context(), func(tx *Tx) error {
		old, err := json.Marshal(map[string]string{"id": "2", "name": "delete.failed", "level": "error", "message": "m"})
		if err != nil {
			return err
		}
		return tx.tx.Bucket(bucketEvents).Put(seqKey(2), old)
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.View(func(tx *Tx) error {
		es, err := tx.FindEvents(EventQuery{})
		if err != nil || len(es) != 2 || es[0].Number != 311 || es[1].Number != 201 || es[1].Level != "warning" {
			t.Errorf("%+v, %v", es, err)
		}
		return nil
	})
}

// TestLogIsBounded: however many events there are, and however long, the log
// keeps the last, and its file does not grow with it.
func TestLogIsBounded(t *testing.T) {
	c, _ := openTest(t)
	count := func() (n int, newest Event) {
		_ = c.View(func(tx *Tx) error {
			n = tx.tx.Bucket(bucketEvents).Stats().KeyN
			es, err := tx.FindEvents(EventQuery{Limit: 1})
			if err != nil {
				return err
			}
			newest = es[0]
			return nil
		})
		return n, newest
	}
	var sizes []int64
	for range 6 {
		for range 5 {
			add(t, c, make([]Event, 1000)...)
		}
		_ = c.View(func(tx *Tx) error { sizes = append(sizes, tx.tx.Size()); return nil })
	}
	n, newest := count()
	if n < maxEvents || n >= maxEvents+trimEvery || newest.ID != "30000" {
		t.Errorf("%d events, the newest %s", n, newest.ID)
	}
	if sizes[5] > 2*sizes[2] {
		t.Errorf("the file grows: %v", sizes)
	}

	long := strings.Repeat("é", maxEventText)
	add(t, c, Event{Message: long, Object: long, Failure: &Failure{Reason: long, Remedy: long, Op: long, Object: long}})
	_, e := count()
	if e.Message == "" || len(e.Message)+len(e.Object)+len(e.Failure.Reason)+len(e.Failure.Remedy) > 4*(maxEventText+10) || !utf8.ValidString(e.Message) {
		t.Errorf("a long event has %d bytes", len(e.Message))
	}
	if !strings.HasSuffix(e.Message, "(cut)") {
		t.Error("it is not said that it was cut")
	}
}

// TestGapIsTrimmed: what an earlier batch left is dropped by the next.
func TestGapIsTrimmed(t *testing.T) {
	c, _ := openTest(t)
	add(t, c, make([]Event, 3)...)
	err := c.Update(t.Context(), func(tx *Tx) error {
		return tx.tx.Bucket(bucketEvents).SetSequence(3*maxEvents - 3*maxEvents%trimEvery - 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	add(t, c, Event{Name: "create.done"})
	_ = c.View(func(tx *Tx) error {
		if es, err := tx.FindEvents(EventQuery{}); len(es) != 1 || es[0].Name != "create.done" || err != nil {
			t.Errorf("%+v, %v", es, err)
		}
		return nil
	})
}

// TestOnEvent: told of what is durable, in order, whole, and of nothing during
// a hold.
func TestOnEvent(t *testing.T) {
	c, _ := openTest(t)
	var held atomic.Bool
	var told []string
	c.OnEvent = func(e Event) {
		if held.Load() {
			t.Errorf("told of %s during a hold", e.Name)
		}
		found := false
		_ = c.View(func(tx *Tx) error {
			es, err := tx.FindEvents(EventQuery{ID: e.ID})
			if err == nil && len(es) == 1 {
				es[0].Time, e.Time = time.Time{}, time.Time{}
				found = reflect.DeepEqual(es[0], e)
			}
			return err
		})
		if !found {
			t.Errorf("told of %+v, which is not durable, or otherwise", e)
		}
		told = append(told, e.ID+" "+e.Name)
	}
	add(t, c, Event{Name: "create.done"}, Event{Name: "import.done", Failure: &Failure{Reason: "r"}})
	broken := errors.New("broken")
	if err := c.Update(t.Context(), func(tx *Tx) error { _, _ = tx.AddEvent(Event{Name: "import.failed"}); return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	release, err := c.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held.Store(true)
	if _, err := c.Log(t.Context(), Event{Name: "service.unexpected"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	held.Store(false)
	release()
	c.flushes.Wait()
	if _, err := c.Log(t.Context(), Event{Name: "delete.done"}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(told); got != "[1 create.done 2 import.done 3 service.unexpected 4 delete.done]" {
		t.Error(got)
	}
}
