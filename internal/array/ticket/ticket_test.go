package ticket

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/vss"
)

func sample(t interface{ Fatal(...any) }) Ticket {
	tk := Ticket{ArrayID: vss.NewID(), SetID: vss.NewID(), Digest: [32]byte{1, 2, 3}, Issued: time.Unix(1_700_000_000, 0).UTC()}
	for i := range 3 {
		n, err := identity.New("0123abcde")
		if err != nil {
			t.Fatal(err)
		}
		tk.LUNs = append(tk.LUNs, LUN{NAA: n, Generation: uint64(i + 1)})
	}
	slices.SortFunc(tk.LUNs, func(a, b LUN) int { return bytes.Compare(a.NAA[:], b.NAA[:]) })
	return tk
}

func TestVerify(t *testing.T) {
	pub, key, _ := ed25519.GenerateKey(nil)
	otherPub, _, _ := ed25519.GenerateKey(nil)
	now := time.Unix(1_700_000_100, 0)
	open := sample(t)
	bound := open
	bound.Host, bound.Expires = "backup1", time.Unix(1_700_000_200, 0).UTC()

	for _, c := range []struct {
		name   string
		ticket Ticket
		pub    ed25519.PublicKey
		edit   func(raw []byte, e *Expect) []byte
		cause  error
		code   vss.HResult
	}{
		{"valid", open, pub, nil, nil, vss.S_OK},
		{"valid bound", bound, pub, nil, nil, vss.S_OK},
		{"foreign array", open, otherPub, nil, ErrSignature, vss.VSS_E_INVALID_XML_DOCUMENT},
		{"no key", open, nil, nil, ErrSignature, vss.VSS_E_INVALID_XML_DOCUMENT},
		{"generation changed", open, pub, func(r []byte, _ *Expect) []byte { r[len(r)-ed25519.SignatureSize-1]++; return r }, ErrSignature, vss.VSS_E_INVALID_XML_DOCUMENT},
		{"other set", open, pub, func(r []byte, e *Expect) []byte { e.SetID = vss.NewID(); return r }, ErrSet, vss.VSS_E_INVALID_XML_DOCUMENT},
		{"other description", open, pub, func(r []byte, e *Expect) []byte { e.Digest[0]++; return r }, ErrDigest, vss.VSS_E_INVALID_XML_DOCUMENT},
		{"other host", bound, pub, func(r []byte, e *Expect) []byte { e.Host = "backup2"; return r }, ErrHost, vss.VSS_E_PROVIDER_VETO},
		{"expired", bound, pub, func(r []byte, e *Expect) []byte { e.Now = bound.Expires; return r }, ErrExpired, vss.VSS_E_PROVIDER_VETO},
		{"cut", open, pub, func(r []byte, _ *Expect) []byte { return r[:len(r)-1] }, ErrMalformed, vss.VSS_E_INVALID_XML_DOCUMENT},
		{"trailing byte", open, pub, func(r []byte, _ *Expect) []byte { return append(r, 0) }, ErrMalformed, vss.VSS_E_INVALID_XML_DOCUMENT},
		{"empty", open, pub, func([]byte, *Expect) []byte { return nil }, ErrMalformed, vss.VSS_E_INVALID_XML_DOCUMENT},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := Sign(key, c.ticket)
			if err != nil {
				t.Fatal(err)
			}
			want := Expect{SetID: c.ticket.SetID, Digest: c.ticket.Digest, Host: "backup1", Now: now}
			if c.edit != nil {
				raw = c.edit(raw, &want)
			}
			got, err := Verify(c.pub, raw, want)
			if vss.CodeOf(err) != c.code || !errors.Is(err, c.cause) {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				if d := cmp.Diff(c.ticket, got); d != "" {
					t.Fatal(d)
				}
			} else if vss.AsError("", err).Remedy == "" {
				t.Fatal("no remedy")
			}
		})
	}
}

// Every single-bit change of a ticket is refused.
func TestTamperedBits(t *testing.T) {
	pub, key, _ := ed25519.GenerateKey(nil)
	tk := sample(t)
	raw, err := Sign(key, tk)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 8 {
		r := bytes.Clone(raw)
		r[i/8] ^= 1 << (i % 8)
		if _, err := Verify(pub, r, Expect{SetID: tk.SetID, Digest: tk.Digest, Now: tk.Issued}); err == nil {
			t.Fatalf("bit %d changed and accepted", i)
		}
	}
}

func TestSignRefusesWhatCannotBeRead(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil)
	for name, edit := range map[string]func(*Ticket){
		"no LUN":    func(tk *Ticket) { tk.LUNs = nil },
		"twice":     func(tk *Ticket) { tk.LUNs[1] = tk.LUNs[0] },
		"long host": func(tk *Ticket) { tk.Host = string(bytes.Repeat([]byte("h"), MaxHost+1)) },
		"many":      func(tk *Ticket) { tk.LUNs = make([]LUN, MaxLUNs+1) },
	} {
		tk := sample(t)
		edit(&tk)
		if _, err := Sign(key, tk); vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSplit(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil)
	a, _ := Sign(key, sample(t))
	b, _ := Sign(key, sample(t))
	parts, err := Split(append(bytes.Clone(a), b...))
	if err != nil || len(parts) != 2 || !bytes.Equal(parts[0], a) || !bytes.Equal(parts[1], b) {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	for name, raw := range map[string][]byte{"empty": nil, "twice one array": append(bytes.Clone(a), a...), "garbage after": append(bytes.Clone(a), 1)} {
		if _, err := Split(raw); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What decodes encodes to the same bytes: there is one encoding.
func FuzzCanonical(f *testing.F) {
	_, key, _ := ed25519.GenerateKey(nil)
	raw, _ := Sign(key, sample(f))
	f.Add(raw)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tk, n, err := decode(raw)
		if err != nil {
			return
		}
		if got := encode(tk); !bytes.Equal(got, raw[:n-ed25519.SignatureSize]) {
			t.Fatalf("%x\n%x", got, raw)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	pub, key, _ := ed25519.GenerateKey(nil)
	rapid.Check(t, func(t *rapid.T) {
		tk := Ticket{ArrayID: vss.NewID(), SetID: vss.NewID(), Issued: time.Unix(rapid.Int64Range(1, 1<<39).Draw(t, "issued"), 0).UTC(),
			Host: rapid.StringN(0, 16, MaxHost).Draw(t, "host")}
		for i, g := range rapid.SliceOfN(rapid.Uint64(), 1, 70).Draw(t, "generations") {
			n, _ := identity.New("0123abcde")
			n[15] = byte(i)
			tk.LUNs = append(tk.LUNs, LUN{n, g})
		}
		raw, err := Sign(key, tk)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Verify(pub, raw, Expect{SetID: tk.SetID, Host: tk.Host, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range tk.LUNs {
			if g, ok := got.Generation(l.NAA); !ok || g != l.Generation {
				t.Fatal("generation lost")
			}
		}
	})
}
