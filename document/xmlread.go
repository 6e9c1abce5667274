package document

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// xmlReader walks a document by the schema: the caller says which children an
// element may have, and anything else is a fault with a position. What XML
// allows and a document never contains (DTDs, processing instructions, text
// between elements) is refused as soon as it is seen.
type xmlReader struct {
	d         *xml.Decoder
	ns        string // the namespace of the document
	schema    string // its version, where that matters
	path      []string
	line, col int      // where the current token starts
	first     bool     // nothing was read yet
	digest    [32]byte // as the document states it
}

func (r *xmlReader) fault(reason string, args ...any) *fault {
	f := faultAt(strings.Join(r.path, "/"), reason, args...)
	f.line, f.col = r.line, r.col
	return f
}

// token returns the next start tag, end tag or text. It gives io.EOF, as a nil
// token, only at the end of a complete document.
func (r *xmlReader) token() (xml.Token, *fault) {
	for {
		r.line, r.col = r.d.InputPos()
		t, err := r.d.Token()
		first := r.first
		r.first = false
		var syntax *xml.SyntaxError
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case errors.As(err, &syntax):
			r.line, r.col = r.d.InputPos()
			return nil, r.fault("not well-formed XML: %s", syntax.Msg).withRemedy(remedyCopy)
		case err != nil:
			r.line, r.col = r.d.InputPos()
			return nil, r.fault("not well-formed XML: %v", err).withRemedy(remedyCopy)
		}
		switch t := t.(type) {
		case xml.Comment:
		case xml.ProcInst:
			if t.Target != "xml" || !first {
				return nil, r.fault("a processing instruction")
			}
		case xml.Directive:
			return nil, r.fault("a document type declaration or other directive")
		default:
			return t, nil
		}
	}
}

// tag returns the next start or end tag; only white space may come before it.
func (r *xmlReader) tag() (xml.Token, *fault) {
	for {
		t, f := r.token()
		if f != nil {
			return nil, f
		}
		if text, ok := t.(xml.CharData); ok {
			if strings.Trim(string(text), " \t\r\n") != "" {
				return nil, r.fault("text where only elements belong")
			}
			continue
		}
		return t, nil
	}
}

// child is one kind of child element: how often it comes and how it is read.
// Children come in the order of the schema.
type child struct {
	name     string
	min, max int
	read     func(*attributes) *fault // reads up to and including the end tag
}

// body reads the children and the end tag of the element just opened.
func (r *xmlReader) body(kids ...child) *fault {
	k, seen := 0, 0
	enough := func() *fault {
		if k < len(kids) && seen < kids[k].min {
			return r.fault("element %s is missing", kids[k].name)
		}
		return nil
	}
	for {
		t, f := r.tag()
		if f != nil {
			return f
		}
		start, ok := t.(xml.StartElement)
		if !ok { // the decoder has seen to it that the end tag is ours
			for ; k < len(kids); k, seen = k+1, 0 {
				if f := enough(); f != nil {
					return f
				}
			}
			return nil
		}
		if start.Name.Space != r.ns {
			return r.fault("element %s of namespace %q, the document's is %s", start.Name.Local, start.Name.Space, r.ns)
		}
		named := func(c child) bool { return c.name == start.Name.Local }
		if !slices.ContainsFunc(kids[k:], named) {
			return r.fault("element %s does not belong here", start.Name.Local)
		}
		for ; !named(kids[k]); k, seen = k+1, 0 {
			if f := enough(); f != nil {
				return f
			}
		}
		if seen++; seen > kids[k].max {
			return r.fault("element %s comes more than %d times", start.Name.Local, kids[k].max)
		}
		r.path = append(r.path, step(start.Name.Local, seen, kids[k].max > 1))
		a, f := r.attributes(start)
		if f != nil {
			return f
		}
		if f := kids[k].read(a); f != nil {
			return f
		}
		r.path = r.path[:len(r.path)-1]
	}
}

func step(name string, n int, repeats bool) string {
	if repeats {
		return fmt.Sprintf("%s[%d]", name, n)
	}
	return name
}

// root reads the start tag of the document element. remedy is for who gives
// another XML file.
func (r *xmlReader) root(name, remedy string) (*attributes, *fault) {
	t, f := r.tag()
	if f != nil {
		return nil, f
	}
	start, ok := t.(xml.StartElement)
	if !ok {
		return nil, r.fault("the document is empty").withRemedy(remedyCopy)
	}
	if start.Name.Local != name || start.Name.Space != r.ns {
		f := r.fault("the document element is %s of namespace %q, not %s of %s", start.Name.Local, start.Name.Space, name, r.ns)
		if major := r.ns[:strings.LastIndex(r.ns, ":")+1]; strings.HasPrefix(start.Name.Space, major) {
			return nil, f.withRemedy(remedyUpdate)
		}
		return nil, f.withRemedy(remedy)
	}
	return r.attributes(start)
}

// end insists that nothing follows the document element.
func (r *xmlReader) end() *fault {
	t, f := r.tag()
	if f == nil && t != nil {
		f = r.fault("something follows the document element")
	}
	return f
}

// text reads the text and the end tag of an element that has nothing else.
func (r *xmlReader) text() (string, *fault) {
	var b strings.Builder
	for {
		t, f := r.token()
		if f != nil {
			return "", f
		}
		switch t := t.(type) {
		case xml.CharData:
			b.Write(t)
		case xml.EndElement:
			return b.String(), nil
		default:
			return "", r.fault("an element where only text belongs")
		}
	}
}
