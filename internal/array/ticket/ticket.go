// Package ticket is the transport ticket: the array's signed word that whoever
// holds a set's document may import the set.
//
// The array signs it (Ed25519) when a transportable set is committed; it rides
// in the Backup Components Document; the importing host's provider verifies it
// offline with the key that came with `umbra join`, and the array verifies it
// again before it unmasks anything. It binds the array, the set, every copy LUN
// with the generation of its commit, a digest of the canonical set description,
// the time it was issued, an expiry (none by default: the life of the set) and,
// if wanted, the one host that may import.
//
// The encoding is canonical: one byte string per ticket content. Parsing
// accepts nothing else, so a signature covers exactly what was read.
// Tickets are self-delimiting; the tickets of a set that spans several arrays
// are concatenated ([Split]).
package ticket

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// MaxLUNs is the most LUNs one ticket can name; MaxHost the longest host name
// in bytes; MaxTickets the most tickets [Split] accepts.
const (
	MaxLUNs    = 4096
	MaxHost    = 64
	MaxTickets = 64
)

const magic = "umbra-ticket-1\n"

// Ticket is what an array vouches for.
type Ticket struct {
	ArrayID vss.ID
	SetID   vss.ID
	Digest  [32]byte  // of the canonical set description
	Issued  time.Time // whole seconds, UTC
	Expires time.Time // whole seconds, UTC; zero for the life of the set
	Host    string    // the one host that may import, "" for any host of the array
	LUNs    []LUN     // sorted by name, no name twice
}

// LUN is one copy the ticket opens.
type LUN struct {
	NAA        lun.NAA
	Generation uint64 // of the copy's commit
}

// Generation returns the generation the ticket vouches for, false for a LUN it
// does not name.
func (t Ticket) Generation(n lun.NAA) (uint64, bool) {
	for _, l := range t.LUNs {
		if l.NAA == n {
			return l.Generation, true
		}
	}
	return 0, false
}

// The reasons a ticket is refused, for errors.Is.
var (
	ErrMalformed = errors.New("not a ticket, or damaged")
	ErrSignature = errors.New("the signature is not the array's")
	ErrSet       = errors.New("the ticket is for another set")
	ErrDigest    = errors.New("the set description is not the one that was signed")
	ErrExpired   = errors.New("the ticket has expired")
	ErrHost      = errors.New("the ticket names another host")
)

// Sign encodes and signs. The LUNs are sorted; times are cut to seconds.
// E_INVALIDARG for a ticket that cannot be encoded.
func Sign(key ed25519.PrivateKey, t Ticket) ([]byte, error) {
	t.LUNs = slices.Clone(t.LUNs)
	slices.SortFunc(t.LUNs, func(a, b LUN) int { return bytes.Compare(a.NAA[:], b.NAA[:]) })
	err := ErrMalformed
	var body []byte
	if len(t.Host) <= MaxHost && len(t.LUNs) <= MaxLUNs {
		body = encode(t)
		_, _, err = decode(append(slices.Clip(body), make([]byte, ed25519.SignatureSize)...))
	}
	if err != nil {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "sign ticket", Object: t.SetID.String(),
			Reason: "the set cannot be written as a ticket", Remedy: "Use between 1 and 4096 different LUNs and a host name of at most 64 bytes", Err: err}
	}
	return append(body, ed25519.Sign(key, body)...), nil
}

// Expect is what the verifier knows.
type Expect struct {
	SetID  vss.ID
	Digest [32]byte
	Host   string // the host that wants to import
	Now    time.Time
}

// Verify reads one ticket and checks it against the array's key and the
// expectations. Errors are *vss.Error: VSS_E_INVALID_XML_DOCUMENT for a ticket
// that is damaged, not signed by the array, or of another set or description
// (the document it rode in was altered); VSS_E_PROVIDER_VETO for one that has
// expired or names another host. errors.Is tells the reasons apart.
func Verify(pub ed25519.PublicKey, raw []byte, want Expect) (Ticket, error) {
	refuse := func(code vss.HResult, cause error, remedy string) (Ticket, error) {
		return Ticket{}, &vss.Error{Code: code, Op: "verify ticket", Object: want.SetID.String(),
			Reason: cause.Error(), Remedy: remedy, Err: cause}
	}
	reissue := "Run `umbra array ticket " + want.SetID.String() + "` on the array and import with the new ticket"
	t, n, err := decode(raw)
	switch {
	case err != nil || n != len(raw):
		return refuse(vss.VSS_E_INVALID_XML_DOCUMENT, ErrMalformed, "Copy the document again from the machine that created it")
	case len(pub) != ed25519.PublicKeySize || !ed25519.Verify(pub, raw[:n-ed25519.SignatureSize], raw[n-ed25519.SignatureSize:n]):
		return refuse(vss.VSS_E_INVALID_XML_DOCUMENT, ErrSignature, "Copy the document again from the machine that created it")
	case t.SetID != want.SetID:
		return refuse(vss.VSS_E_INVALID_XML_DOCUMENT, ErrSet, "Use the ticket that came with this document")
	case t.Digest != want.Digest:
		return refuse(vss.VSS_E_INVALID_XML_DOCUMENT, ErrDigest, "Copy the document again from the machine that created it")
	case !t.Expires.IsZero() && !want.Now.Before(t.Expires):
		return refuse(vss.VSS_E_PROVIDER_VETO, ErrExpired, reissue)
	case t.Host != "" && t.Host != want.Host:
		return refuse(vss.VSS_E_PROVIDER_VETO, ErrHost, reissue+", naming this host")
	}
	return t, nil
}

// Peek reads the content of one ticket without checking anything: to find the
// array whose key verifies it. Never act on it alone.
func Peek(raw []byte) (Ticket, error) {
	t, n, err := decode(raw)
	if err != nil || n != len(raw) {
		return Ticket{}, &vss.Error{Code: vss.VSS_E_INVALID_XML_DOCUMENT, Op: "read ticket", Object: "transport ticket",
			Reason: ErrMalformed.Error(), Remedy: "Copy the document again from the machine that created it", Err: ErrMalformed}
	}
	return t, nil
}

// Split cuts concatenated tickets apart. At least one, at most [MaxTickets],
// each of another array; VSS_E_INVALID_XML_DOCUMENT otherwise.
func Split(raw []byte) ([][]byte, error) {
	var out [][]byte
	seen := map[vss.ID]bool{}
	for rest := raw; ; {
		t, n, err := decode(rest)
		if err != nil || len(out) == MaxTickets || seen[t.ArrayID] {
			return nil, &vss.Error{Code: vss.VSS_E_INVALID_XML_DOCUMENT, Op: "read ticket", Object: "transport ticket",
				Reason: ErrMalformed.Error(), Remedy: "Copy the document again from the machine that created it", Err: ErrMalformed}
		}
		seen[t.ArrayID] = true
		out = append(out, rest[:n:n])
		if rest = rest[n:]; len(rest) == 0 {
			return out, nil
		}
	}
}

func seconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix())
}

func encode(t Ticket) []byte {
	b := make([]byte, 0, len(magic)+16+16+32+8+8+2+len(t.Host)+2+len(t.LUNs)*24+ed25519.SignatureSize)
	b = append(b, magic...)
	b = append(b, t.ArrayID[:]...)
	b = append(b, t.SetID[:]...)
	b = append(b, t.Digest[:]...)
	b = binary.BigEndian.AppendUint64(b, seconds(t.Issued))
	b = binary.BigEndian.AppendUint64(b, seconds(t.Expires))
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Host)))
	b = append(b, t.Host...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.LUNs)))
	for _, l := range t.LUNs {
		b = append(b, l.NAA[:]...)
		b = binary.BigEndian.AppendUint64(b, l.Generation)
	}
	return b
}

// decode reads the ticket at the start of raw and says how long it is,
// signature included. Only the canonical encoding is accepted.
func decode(raw []byte) (Ticket, int, error) {
	var t Ticket
	rest := raw
	take := func(n int) []byte {
		if rest == nil || len(rest) < n {
			rest = nil
			return make([]byte, n)
		}
		b := rest[:n]
		rest = rest[n:]
		return b
	}
	if string(take(len(magic))) != magic {
		return t, 0, ErrMalformed
	}
	copy(t.ArrayID[:], take(16))
	copy(t.SetID[:], take(16))
	copy(t.Digest[:], take(32))
	issued, expires := binary.BigEndian.Uint64(take(8)), binary.BigEndian.Uint64(take(8))
	hostLen := int(binary.BigEndian.Uint16(take(2)))
	if hostLen > MaxHost || issued>>40 != 0 || expires>>40 != 0 {
		return t, 0, ErrMalformed
	}
	t.Host = string(take(hostLen))
	count := int(binary.BigEndian.Uint16(take(2)))
	if rest == nil || count == 0 || count > MaxLUNs {
		return t, 0, ErrMalformed
	}
	for i := range count {
		var l LUN
		copy(l.NAA[:], take(16))
		l.Generation = binary.BigEndian.Uint64(take(8))
		if rest == nil || i > 0 && bytes.Compare(t.LUNs[i-1].NAA[:], l.NAA[:]) >= 0 {
			return t, 0, ErrMalformed
		}
		t.LUNs = append(t.LUNs, l)
	}
	take(ed25519.SignatureSize)
	if rest == nil {
		return t, 0, ErrMalformed
	}
	t.Issued = time.Unix(int64(issued), 0).UTC()
	if expires != 0 {
		t.Expires = time.Unix(int64(expires), 0).UTC()
	}
	return t, len(raw) - len(rest), nil
}
