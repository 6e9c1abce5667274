// Package identity says what an Umbra array's LUNs are called and what they
// report of themselves. It is the part of the array that hosts, providers and
// the array itself agree on without asking each other.
//
// A LUN's name is an NAA "IEEE Registered Extended" identifier:
//
//	6001405           the OUI, with the NAA type in its first digit
//	ppppppppp         the array: 9 random hexadecimal digits, fixed when it is made
//	rrrrrrrrrrrrrrrr  the LUN: 16 random digits, one draw per LUN, never used twice
//
// 6001405 is NAA type 6 with the OUI Linux targets use (LIO). Everything else a
// LUN says of itself is a pure function of the name ([Info]), so two hosts that
// see the same LUN necessarily agree, and a name in a document can be compared
// with a disk without asking the array.
package identity

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const (
	// OUI is the first seven digits of every LUN name: NAA type 6 and the
	// company identifier.
	OUI = "6001405"
	// PrefixLen is the number of hexadecimal digits of an array's prefix.
	PrefixLen = 9
	// Vendor, Product and Revision are the INQUIRY strings of every LUN.
	Vendor   = "UMBRA"
	Product  = "FILE LUN"
	Revision = "1"
)

// Info is what the LUN says of itself on every host: VDS_LUN_INFORMATION
// without interconnects. The serial number is the name without its OUI.
func Info(n lun.NAA) lun.Info {
	return lun.Info{
		Version:         lun.InfoVersion,
		CommandQueueing: true,
		BusType:         lun.BusFileBackedVirtual,
		VendorID:        Vendor,
		ProductID:       Product,
		ProductRevision: Revision,
		SerialNumber:    hex.EncodeToString(n[:])[len(OUI):],
		StorageIDs:      []lun.StorageID{n.StorageID()},
	}
}

// NewPrefix draws the prefix of a new array.
func NewPrefix() string { return randomDigits(PrefixLen) }

// ValidPrefix reports whether s can be an array's prefix.
func ValidPrefix(s string) bool {
	return len(s) == PrefixLen && strings.Trim(s, "0123456789abcdef") == ""
}

// New draws a LUN name for the array with this prefix. Whether it is unused is
// the array's to check.
func New(prefix string) (lun.NAA, error) {
	if !ValidPrefix(prefix) {
		return lun.NAA{}, &vss.Error{Code: vss.E_INVALIDARG, Op: "name a LUN", Object: prefix,
			Reason: "an array prefix is nine hexadecimal digits", Remedy: "Restore the array's database from a backup"}
	}
	return lun.ParseNAA(OUI + prefix + randomDigits(32-len(OUI)-PrefixLen))
}

// PrefixOf returns the prefix of the array a LUN belongs to, false for a name
// no Umbra array gives.
func PrefixOf(n lun.NAA) (string, bool) {
	s := hex.EncodeToString(n[:])
	if !strings.HasPrefix(s, OUI) {
		return "", false
	}
	return s[len(OUI) : len(OUI)+PrefixLen], true
}

func randomDigits(n int) string {
	b := make([]byte, (n+1)/2)
	rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)[:n]
}
