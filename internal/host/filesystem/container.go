package filesystem

import (
	"bytes"
	"strings"
)

// What a device may hold instead of a filesystem, named as blkid names it. It is
// recognised so that it can be reported; nothing here opens it.
const (
	TypeLUKS = "crypto_LUKS" // encrypted: what is in it only the key's owner can say
	TypeLVM  = "LVM2_member" // a physical volume
)

// Container reports whether it is something that holds volumes, and no
// filesystem itself.
func (i Identity) Container() bool { return i.Type == TypeLUKS || i.Type == TypeLVM }

// parseLUKS reads the first header of LUKS 1 or 2; both have the UUID in the same
// place. Version 2 has a label before it.
func parseLUKS(head []byte) (Identity, bool, error) {
	b := at(head, 0, 512)
	if b == nil || !bytes.Equal(b[:6], []byte("LUKS\xba\xbe")) || b[6] != 0 || b[7] != 1 && b[7] != 2 {
		return Identity{}, false, nil
	}
	id := Identity{Type: TypeLUKS, UUID: printable(text(b[168:208])), Devices: 1}
	if b[7] == 2 {
		id.Label = text(b[24:72])
	}
	return id, true, nil
}

// parseLVM finds the label of a physical volume in one of the first sectors.
// Package lvm reads what it leads to, and its checksums.
func parseLVM(head []byte) (Identity, bool, error) {
	for n := 0; n < 4; n++ {
		b := at(head, n*512, 512)
		if b == nil || !bytes.Equal(b[:8], []byte("LABELONE")) || !bytes.Equal(b[24:32], []byte("LVM2 001")) {
			continue
		}
		u := printable(string(b[32:64]))
		if b[20] == 32 && len(u) == 32 {
			u = strings.Join([]string{u[:6], u[6:10], u[10:14], u[14:18], u[18:22], u[22:26], u[26:]}, "-")
		} else {
			u = ""
		}
		return Identity{Type: TypeLVM, UUID: u, Devices: 1}, true, nil
	}
	return Identity{}, false, nil
}

// printable is s if it is plain text without blanks, else "".
func printable(s string) string {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return ""
		}
	}
	return s
}
