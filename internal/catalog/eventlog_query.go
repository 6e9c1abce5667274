package catalog

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// EventQuery chooses events; a zero field chooses all.
type EventQuery struct {
	ID      string
	Set     vss.ID
	Session vss.ID
	Name    string    // "import.done", or an area: "import"
	Level   Level     // as bad as that, or worse
	Since   time.Time // at that time or later
	Until   time.Time // before that time
	Limit   int       // 0 is 100; at most MaxEvents
}

func (q EventQuery) matches(e Event) bool {
	return (q.ID == "" || e.ID == q.ID) &&
		(q.Set.IsNull() || e.SetID == q.Set) &&
		(q.Session.IsNull() || e.Session == q.Session) &&
		(q.Name == "" || named(e.Name, q.Name)) &&
		(q.Level == "" || Level(e.Level).AtLeast(q.Level)) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) &&
		(q.Until.IsZero() || e.Time.Before(q.Until))
}

// FindEvents lists the newest events of those chosen first. All entries are
// looked at: a clock that was set back puts them out of the order of time.
func (t *Tx) FindEvents(q EventQuery) ([]Event, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, MaxEvents)
	c := t.tx.Bucket(bucketEvents).Cursor()
	k, v := c.Last()
	if q.ID != "" { // at most one, and no need to look for it
		n, err := strconv.ParseUint(q.ID, 10, 64)
		if err != nil {
			return nil, nil
		}
		q.Limit = 1
		k, v = seqKey(n), t.tx.Bucket(bucketEvents).Get(seqKey(n))
		if v == nil {
			return nil, nil
		}
	}
	var out []Event
	for ; k != nil && len(out) < q.Limit; k, v = c.Prev() {
		var e Event
		if err := json.Unmarshal(v, &e); err != nil {
			return nil, err
		}
		if e.Number == 0 { // written before events had numbers
			e.complete()
		}
		if q.matches(e) {
			out = append(out, e)
		}
		if q.ID != "" {
			break
		}
	}
	return out, nil
}

// Events lists the newest events first: all, of one set, or the one with id.
// limit 0 means 100.
func (t *Tx) Events(id string, set vss.ID, limit int) ([]Event, error) {
	return t.FindEvents(EventQuery{ID: id, Set: set, Limit: limit})
}
