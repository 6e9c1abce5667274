package lun

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// Match reports whether got, read from a disk that arrived, is the LUN that
// want describes. It returns nil when it is, and otherwise a *vss.Error with
// code VSS_E_MISSING_DISK whose reason names the first field that differs. A
// mismatch is an ordinary answer: the disk is some other LUN.
//
// They are the same LUN when all of this holds (provider.md 6.1 rule 4):
//
//   - both have a valid version, and device type and modifier are equal;
//   - vendor and product are equal, padding aside;
//   - serial numbers are equal, padding aside, where both have one;
//   - at least one qualifying identifier is on both lists, byte for byte;
//   - no kind of identifier that both lists have is without a common member.
//
// A kind is finer than type and code set: for NAA it includes the NAA format
// (the first nibble), for EUI-64 the length, for a SCSI name its prefix. Two
// rules follow. A LUN may carry several names of one kind, and a host may see
// fewer of them than the storage system told: one that agrees is enough. But a
// name that many LUNs share (an array's own NAA 5 name, a T10 name made of the
// model alone) cannot vouch for a LUN whose own NAA 6 name differs.
//
// Bus type, disk signature, product revision, interconnects and command
// queueing are ignored: hosts, firmware and paths change them.
//
// Match is symmetric and safe for concurrent use.
func Match(want, got Info) error {
	if want.Version != InfoVersion || got.Version != InfoVersion {
		return differs(want, "version", fmt.Sprint(want.Version), fmt.Sprint(got.Version))
	}
	if want.DeviceType != got.DeviceType {
		return differs(want, "device type", fmt.Sprint(want.DeviceType), fmt.Sprint(got.DeviceType))
	}
	if want.DeviceTypeModifier != got.DeviceTypeModifier {
		return differs(want, "device type modifier", fmt.Sprint(want.DeviceTypeModifier), fmt.Sprint(got.DeviceTypeModifier))
	}
	if w, g := unpad(want.VendorID), unpad(got.VendorID); w != g {
		return differs(want, "vendor", w, g)
	}
	if w, g := unpad(want.ProductID), unpad(got.ProductID); w != g {
		return differs(want, "product", w, g)
	}
	if w, g := unpad(want.SerialNumber), unpad(got.SerialNumber); w != "" && g != "" && w != g {
		return differs(want, "serial number", w, g)
	}
	return matchIdentifiers(want, got)
}

func matchIdentifiers(want, got Info) error {
	w, g := byKind(want.StorageIDs), byKind(got.StorageIDs)
	agreed := false
	// In the order of the list, so that the message does not vary.
	for _, s := range want.StorageIDs {
		k := kindOf(s)
		if len(w[k]) == 0 || len(g[k]) == 0 {
			continue // one side does not have this kind: no evidence
		}
		if !intersect(w[k], g[k]) {
			return differs(want, "identifier", names(w[k]), names(g[k]))
		}
		agreed = true
	}
	if !agreed {
		return differs(want, "identifier", names(qualifying(want.StorageIDs)), names(qualifying(got.StorageIDs)))
	}
	return nil
}

// identifierKind groups identifiers of which a LUN is expected to show the
// same ones to every host.
type identifierKind struct {
	Type    IDType
	CodeSet CodeSet
	Format  string
}

func kindOf(s StorageID) identifierKind {
	k := identifierKind{Type: s.Type, CodeSet: s.CodeSet}
	switch {
	case len(s.Identifier) == 0:
	case s.Type == IDFCPHName:
		k.Format = fmt.Sprintf("naa %x", s.Identifier[0]>>4)
	case s.Type == IDEUI64:
		k.Format = fmt.Sprintf("eui %d", len(s.Identifier))
	case s.Type == IDSCSINameString:
		if prefix, _, ok := strings.Cut(string(s.Identifier), "."); ok {
			k.Format = strings.ToLower(prefix)
		}
	}
	return k
}

// identifies is Qualifies for what devices really say: some fill a designator
// with zeros or blanks, which names nothing.
func identifies(s StorageID) bool {
	return s.Qualifies() && len(bytes.Trim(s.Identifier, "\x00 ")) > 0
}

// QualifyingIDs returns the identifiers by which the LUN can be told from
// others: those that Qualify and are not filled with zeros or blanks. A LUN
// without any cannot be transported.
func (i Info) QualifyingIDs() []StorageID { return qualifying(i.StorageIDs) }

func qualifying(ids []StorageID) []StorageID {
	var out []StorageID
	for _, s := range ids {
		if identifies(s) {
			out = append(out, s)
		}
	}
	return out
}

func byKind(ids []StorageID) map[identifierKind][]StorageID {
	m := make(map[identifierKind][]StorageID)
	for _, s := range qualifying(ids) {
		m[kindOf(s)] = append(m[kindOf(s)], s)
	}
	return m
}

func intersect(a, b []StorageID) bool {
	for _, x := range a {
		for _, y := range b {
			if x.CodeSet == y.CodeSet && x.Type == y.Type && bytes.Equal(x.Identifier, y.Identifier) {
				return true
			}
		}
	}
	return false
}

func names(ids []StorageID) string {
	if len(ids) == 0 {
		return "no qualifying identifier"
	}
	out := make([]string, len(ids))
	for i, s := range ids {
		out[i] = s.String()
	}
	return strings.Join(out, ", ")
}

// unpad removes the blanks and NULs with which devices fill fixed-width
// fields.
func unpad(s string) string { return strings.Trim(s, "\x00 ") }

func differs(want Info, field, w, g string) error {
	return &vss.Error{Code: vss.VSS_E_MISSING_DISK, Op: "match LUN", Object: want.Name(),
		Reason: fmt.Sprintf("%s differs: want %q, the disk has %q", field, w, g),
		Remedy: "Map the LUN that the document names to this host, and look at umbra list luns for what has arrived"}
}
