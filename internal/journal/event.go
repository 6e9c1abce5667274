package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/vss"
)

const identifier = "umbra"

// Event mirrors an event.
func (j *Journal) Event(e catalog.Event) { j.Send(fieldsOf(e)...) }

// fieldsOf makes the entry. What an event does not have is left out.
func fieldsOf(e catalog.Event) []Field {
	out := []Field{{"MESSAGE", line(e)}, {"PRIORITY", priority(catalog.Level(e.Level))}, {"SYSLOG_IDENTIFIER", identifier}}
	add := func(name, value string) {
		if value != "" {
			out = append(out, Field{name, value})
		}
	}
	if e.Number != 0 {
		add("MESSAGE_ID", MessageID(e.Number))
		add("UMBRA_EVENT_NUMBER", strconv.Itoa(e.Number))
	}
	add("UMBRA_EVENT", e.Name)
	add("UMBRA_EVENT_ID", e.ID)
	add("UMBRA_EVENT_TIME", strconv.FormatInt(e.Time.UnixMicro(), 10)) // it may have waited for a hold
	add("UMBRA_SESSION", id(e.Session))
	add("UMBRA_SET", id(e.SetID))
	add("UMBRA_OBJECT", e.Object)
	if f := e.Failure; f != nil {
		add("UMBRA_CODE", f.Code.String())
		add("UMBRA_REASON", f.Reason)
		add("UMBRA_REMEDY", f.Remedy)
	}
	return out
}

// line is the event as journalctl shows it.
func line(e catalog.Event) string {
	s := e.Name + ": " + e.Message
	if f := e.Failure; f != nil {
		s += ": " + f.Err().Error()
		if f.Remedy != "" {
			s += ". " + f.Remedy
		}
	}
	return s
}

func id(v vss.ID) string {
	if v.IsNull() {
		return ""
	}
	return v.String()
}

// priority is syslog's.
func priority(l catalog.Level) string {
	switch l {
	case catalog.Failed:
		return "3"
	case catalog.Warning:
		return "4"
	}
	return "6"
}

// MessageID is the journal's 128-bit name of all events with a number: an UUID
// of version 8 made of a hash, the same on every machine and in every version.
func MessageID(number int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "umbra event %d", number))
	h[6] = h[6]&0x0f | 0x80
	h[8] = h[8]&0x3f | 0x80
	return hex.EncodeToString(h[:16])
}
