package document

import (
	"fmt"

	"github.com/umbra-vss/umbra/vss"
)

// Remedies that recur.
const (
	remedyOriginal = "Use the document unchanged, as it was saved on the machine that created the set"
	remedyCopy     = "Copy the document again from the machine that created the set, in binary mode, and compare checksums"
	remedyUpdate   = "Update Umbra on this machine to the version that wrote the document"
)

// fault is one thing that is wrong with a document.
type fault struct {
	what      string // the kind of document, "" for a backup components document
	path      string // "snapshotSet/snapshot[2]/lunMapping[1]", "" for the root
	reason    string
	remedy    string
	line, col int // 0 where there is no XML to point into
}

func faultAt(path, reason string, args ...any) *fault {
	return &fault{path: path, reason: fmt.Sprintf(reason, args...), remedy: remedyOriginal}
}

func (f *fault) withRemedy(remedy string) *fault {
	f.remedy = remedy
	return f
}

// of says which kind of document it is.
func (f *fault) of(what string) *fault {
	f.what = what
	return f
}

func (f *fault) err(op string) *vss.Error {
	e := &vss.Error{Code: vss.VSS_E_INVALID_XML_DOCUMENT, Op: op, Object: "backup components document",
		Reason: f.reason, Remedy: f.remedy}
	if f.what != "" {
		e.Object = f.what
	}
	if f.path != "" {
		e.Object += ", " + f.path
	}
	if f.line > 0 {
		e.Reason = fmt.Sprintf("line %d, column %d: %s", f.line, f.col, f.reason)
	}
	return e
}
