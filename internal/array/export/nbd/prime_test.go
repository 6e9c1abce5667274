package nbd

import (
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"
)

// TestPrime: the parameters are a safe prime of the right form and length, and
// the generator of its subgroup.
func TestPrime(t *testing.T) {
	block, rest := pem.Decode([]byte(ffdhe2048))
	if block == nil || block.Type != "DH PARAMETERS" || len(rest) != 0 {
		t.Fatalf("%+v, and %q behind it", block, rest)
	}
	var group struct{ P, G *big.Int }
	if rest, err := asn1.Unmarshal(block.Bytes, &group); err != nil || len(rest) != 0 {
		t.Fatal(err, rest)
	}
	half := new(big.Int).Rsh(group.P, 1)
	if group.P.BitLen() != 2048 || !group.P.ProbablyPrime(4) || !half.ProbablyPrime(4) || group.G.Int64() != 2 {
		t.Errorf("p = %x, g = %v", group.P, group.G)
	}
	// p = 2^2048 - 2^1984 + (floor(2^1918 e) + 560316) 2^64 - 1: the ends are ones.
	ones := new(big.Int).SetUint64(1<<64 - 1)
	low := new(big.Int).And(group.P, ones)
	if high := new(big.Int).Rsh(group.P, 1984); low.Cmp(ones) != 0 || high.Cmp(ones) != 0 {
		t.Errorf("its ends are %x and %x", high, low)
	}
}
