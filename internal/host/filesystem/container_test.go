package filesystem

import (
	"testing"
)

func TestContainers(t *testing.T) {
	luks := make([]byte, 4096)
	copy(luks, "LUKS\xba\xbe\x00\x02")
	copy(luks[24:], "vault")
	copy(luks[168:], "0d9e8a4c-6d0c-4d7b-9d55-0d6a7a3c1a11")
	lvm := make([]byte, 4096)
	copy(lvm[512:], "LABELONE")
	lvm[512+20] = 32
	copy(lvm[512+24:], "LVM2 001r8grWr3NCFdLOZe98rVVDpsN0IzjXV6k")
	for _, c := range []struct {
		head              []byte
		kind, uuid, label string
	}{
		{luks, TypeLUKS, "0d9e8a4c-6d0c-4d7b-9d55-0d6a7a3c1a11", "vault"},
		{lvm, TypeLVM, "r8grWr-3NCF-dLOZ-e98r-VVDp-sN0I-zjXV6k", ""},
		{lvm[:512], "", "", ""},
		{luks[:100], "", "", ""},
	} {
		id, err := Parse(c.head)
		if err != nil || id.Type != c.kind || id.UUID != c.uuid || id.Label != c.label || id.Container() != (c.kind != "") {
			t.Errorf("%+v, %v; want %s %s", id, err, c.kind, c.uuid)
		}
	}
	luks[168] = '\n' // what is shown to people is plain
	if id, _ := Parse(luks); id.Type != TypeLUKS || id.UUID != "" {
		t.Errorf("%+v", id)
	}
	luks[7] = 3
	if id, _ := Parse(luks); id.Type != "" {
		t.Errorf("a version that is not known: %+v", id)
	}
}
