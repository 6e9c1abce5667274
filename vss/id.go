package vss

import (
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// ID is a VSS_ID: the GUID of a shadow copy, a set, a provider, a writer or a
// session. The zero value is GUID_NULL.
type ID [16]byte

// GUIDNull is the ID that names nothing: "any provider", "no copy".
var GUIDNull ID

// NewID returns a random ID.
func NewID() ID { return ID(uuid.New()) }

// IsNull reports whether the ID is GUID_NULL.
func (id ID) IsNull() bool { return id == GUIDNull }

// String is the lower-case GUID in braces.
func (id ID) String() string { return "{" + uuid.UUID(id).String() + "}" }

// Bare is the lower-case GUID without braces, for file names.
func (id ID) Bare() string { return uuid.UUID(id).String() }

// MarshalText writes the ID as String does, so that it is readable in JSON
// and XML.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText accepts what ParseID accepts.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// ParseID reads a GUID of 36 characters, in either case, with or without
// braces. Anything else gives E_INVALIDARG.
func ParseID(s string) (ID, error) {
	t := s
	if len(t) == 38 && t[0] == '{' && t[37] == '}' {
		t = t[1:37]
	}
	if len(t) == 36 && t[8] == '-' && t[13] == '-' && t[18] == '-' && t[23] == '-' {
		var id ID
		if n, err := hex.Decode(id[:], []byte(strings.ReplaceAll(t, "-", ""))); err == nil && n == 16 {
			return id, nil
		}
	}
	return GUIDNull, &Error{Code: E_INVALIDARG, Op: "parse ID", Object: s,
		Reason: "not a GUID", Remedy: "Give the ID as umbra list prints it, with or without braces"}
}
