package identity

import (
	"encoding/hex"
	"strings"

	"github.com/umbra-vss/umbra/lun"
)

// An NVMe namespace has no NAA name. It has an NGUID and a UUID, and both are
// the LUN's NAA name in another order, so that a host reads the name from
// either, without a table and without asking the array:
//
//	NAA     6 001405 ppppppppp rrrrrrrrrrrrrrrr
//	NGUID   rrrrrrrrrrrrrrrr 001405 ppppppppp 6        as the NVMe standard wants it: extension, company, extension
//	UUID    01405ppp-pppp-8ppr-8rrr-rrrrrrrrrrrr       version 8, the maker's own
//
// The kernel calls a namespace by its UUID if it has one, else by its NGUID.

// NGUID is the name of a LUN's namespace.
func NGUID(n lun.NAA) [16]byte { return raw(nguidDigits(hex.EncodeToString(n[:]))) }

// UUID is the other name of a LUN's namespace.
func UUID(n lun.NAA) [16]byte { return raw(uuidDigits(hex.EncodeToString(n[:]))) }

func nguidDigits(naa string) string { return naa[16:] + naa[1:16] + naa[:1] }
func uuidDigits(naa string) string  { return naa[2:14] + "8" + naa[14:17] + "8" + naa[17:] }

// NamespaceWWIDs are what the kernel calls namespaces of the LUNs whose names
// begin with these digits, as patterns in which ? is any digit. There are none
// for names that no Umbra array gives.
func NamespaceWWIDs(digits string) []string {
	if !strings.HasPrefix(digits, OUI) || len(digits) > 32 {
		return nil
	}
	digits += strings.Repeat("?", 32-len(digits))
	return []string{"uuid." + dashed(uuidDigits(digits)), "eui." + nguidDigits(digits)}
}

// OfNamespace returns the LUN of a namespace with this NGUID or UUID; false if
// neither is the name of a LUN of an Umbra array, or if they disagree. All zeros
// stand for one that the namespace does not have.
func OfNamespace(nguid, uuid [16]byte) (n lun.NAA, ok bool) {
	if nguid != [16]byte{} {
		d := hex.EncodeToString(nguid[:])
		n, ok = ours(d[31:] + d[16:31] + d[:16])
		if !ok {
			return lun.NAA{}, false
		}
	}
	if uuid == [16]byte{} {
		return n, ok
	}
	d := hex.EncodeToString(uuid[:])
	if d[12] != '8' || d[16] != '8' {
		return lun.NAA{}, false
	}
	byUUID, known := ours("60" + d[:12] + d[13:16] + d[17:])
	if !known || ok && byUUID != n {
		return lun.NAA{}, false
	}
	return byUUID, true
}

func ours(digits string) (lun.NAA, bool) {
	n, err := lun.ParseNAA(digits)
	return n, err == nil && strings.HasPrefix(digits, OUI)
}

func raw(digits string) (out [16]byte) {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(out) {
		panic("identity: not sixteen bytes: " + digits)
	}
	return [16]byte(b)
}

// GUIDText writes an NGUID or UUID as the kernel does.
func GUIDText(g [16]byte) string { return dashed(hex.EncodeToString(g[:])) }

func dashed(d string) string {
	return strings.Join([]string{d[:8], d[8:12], d[12:16], d[16:20], d[20:]}, "-")
}

// ParseGUID reads what GUIDText writes, also without dashes.
func ParseGUID(s string) (g [16]byte, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if err != nil || len(b) != len(g) {
		return g, false
	}
	return [16]byte(b), true
}
