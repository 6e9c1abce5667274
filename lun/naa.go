package lun

import (
	"encoding/hex"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// NAA is a 16-byte "NAA IEEE Registered Extended" name (type 6), the one
// identifier an Umbra array gives a LUN for life. Its text form is
// "naa.6001405…", 36 characters.
type NAA [16]byte

// ParseNAA reads "naa." followed by 32 hexadecimal digits, or the digits
// alone, in either case; E_INVALIDARG for anything else.
func ParseNAA(s string) (NAA, error) {
	var n NAA
	t := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "naa.")
	if b, err := hex.DecodeString(t); err == nil && len(b) == 16 && b[0]>>4 == 6 {
		copy(n[:], b)
		return n, nil
	}
	return n, &vss.Error{Code: vss.E_INVALIDARG, Op: "parse LUN identifier", Object: s,
		Reason: "not a 16-byte NAA identifier", Remedy: "Give the LUN as umbra array lun list prints it: naa. and 32 hexadecimal digits, the first a 6"}
}

// String is the text form.
func (n NAA) String() string { return "naa." + hex.EncodeToString(n[:]) }

// MarshalText writes the text form.
func (n NAA) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText accepts what ParseNAA accepts.
func (n *NAA) UnmarshalText(b []byte) error {
	v, err := ParseNAA(string(b))
	if err == nil {
		*n = v
	}
	return err
}

// StorageID is the name as a page 0x83 designator.
func (n NAA) StorageID() StorageID {
	return StorageID{CodeSet: CodeSetBinary, Type: IDFCPHName, Identifier: append([]byte(nil), n[:]...)}
}

// NAA returns the first 16-byte NAA identifier of the LUN.
func (i Info) NAA() (NAA, bool) {
	for _, s := range i.StorageIDs {
		if s.Type == IDFCPHName && len(s.Identifier) == 16 {
			return NAA(s.Identifier), true
		}
	}
	return NAA{}, false
}
