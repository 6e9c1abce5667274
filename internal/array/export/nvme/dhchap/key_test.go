package dhchap

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

// TestKey: 32 bytes with the checksum that the kernel looks at, golden because
// array and host may be of different versions.
func TestKey(t *testing.T) {
	got := Key("secret")
	b, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(strings.TrimPrefix(got, "DHHC-1:00:"), ":"))
	if err != nil || len(b) != 36 || crc32.ChecksumIEEE(b[:32]) != binary.LittleEndian.Uint32(b[32:]) {
		t.Errorf("%q: %d bytes, %v", got, len(b), err)
	}
	if want := "DHHC-1:00:pUBcu9ZumTuwkk5y673Eg47At6SQBHu84xDEhcR1rbdV/S67:"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}
