package document

import (
	"encoding/xml"
	"math"

	"github.com/umbra-vss/umbra/vss"
)

// attributes are those of one start tag. Each is taken once by name; the first
// fault sticks, and done reports it, or an attribute that nobody took.
type attributes struct {
	r    *xmlReader
	left map[string]string
	bad  *fault
}

func (r *xmlReader) attributes(start xml.StartElement) (*attributes, *fault) {
	a := &attributes{r: r, left: make(map[string]string, len(start.Attr))}
	seen := make(map[xml.Name]bool, len(start.Attr))
	for _, x := range start.Attr {
		if seen[x.Name] {
			return nil, r.fault("attribute %s comes twice", x.Name.Local)
		}
		seen[x.Name] = true
		if x.Name.Space == "xmlns" || x.Name == (xml.Name{Local: "xmlns"}) {
			if x.Value != r.ns {
				return nil, r.fault("a namespace %q", x.Value)
			}
			continue
		}
		if x.Name.Space != "" {
			return nil, r.fault("unknown attribute %s of namespace %q", x.Name.Local, x.Name.Space)
		}
		a.left[x.Name.Local] = x.Value
	}
	return a, nil
}

// take applies read to an attribute that must be there.
func take[T any](a *attributes, name string, read func(string) (T, error)) T {
	var zero T
	if a.bad != nil {
		return zero
	}
	s, ok := a.left[name]
	if !ok {
		a.bad = a.r.fault("attribute %s is missing", name)
		return zero
	}
	delete(a.left, name)
	v, err := read(s)
	if err != nil {
		a.bad = a.r.fault("attribute %s: %v", name, err)
		return zero
	}
	return v
}

func (a *attributes) done() *fault {
	if a.bad != nil {
		return a.bad
	}
	unknown := ""
	for name := range a.left {
		if unknown == "" || name < unknown {
			unknown = name
		}
	}
	if unknown != "" {
		return a.r.fault("unknown attribute %s", unknown)
	}
	return nil
}

func (a *attributes) text(name string) string { return take(a, name, unescape) }
func (a *attributes) flag(name string) bool   { return take(a, name, readBool) }
func (a *attributes) id(name string) vss.ID   { return take(a, name, readID) }
func (a *attributes) hex(name string) []byte  { return take(a, name, readHex) }
func (a *attributes) bits(name string) uint32 { return take(a, name, readBits) }
func (a *attributes) time(name string) vss.Timestamp {
	return take(a, name, readTime)
}

func (a *attributes) number(name string, most uint64) uint64 {
	return take(a, name, func(s string) (uint64, error) { return readNumber(s, most) })
}

func (a *attributes) size(name string) uint64 { return a.number(name, math.MaxUint64) }
func (a *attributes) octet(name string) uint8 { return uint8(a.number(name, math.MaxUint8)) }
