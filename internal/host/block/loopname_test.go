package block

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/lun"
)

func TestLoopName(t *testing.T) {
	naa, err := lun.ParseNAA("naa.6001405123456789abcdef0123456789")
	if err != nil {
		t.Fatal(err)
	}
	tag := HostTag("web-1.example.com")
	name := LoopName(naa, tag)
	if len(name) >= unix.LO_NAME_SIZE {
		t.Errorf("%q has %d bytes", name, len(name))
	}
	if gotNAA, gotTag, ok := ParseLoopName(name); !ok || gotNAA != naa || gotTag != tag {
		t.Errorf("ParseLoopName(%q) = %v, %v, %v", name, gotNAA, gotTag, ok)
	}
	if HostTag("web-1.example.com") != tag || HostTag("web-2.example.com") == tag || len(tag) != 8 {
		t.Errorf("tag %q", tag)
	}
	for _, bad := range []string{
		"", "umbra/", "/srv/disk.img", strings.ToUpper(name), name + "/x", name[:len(name)-1], name + "0",
		"umbra/" + naa.String(), "umbra/6001405123456789abcdef0123456789/" + tag,
		"umbra/naa.5001405123456789abcdef0123456789/" + tag, "umbra/" + naa.String() + "/0123456g",
	} {
		if _, _, ok := ParseLoopName(bad); ok {
			t.Errorf("ParseLoopName(%q) took it", bad)
		}
	}
}

func FuzzParseLoopName(f *testing.F) {
	f.Add("umbra/naa.6001405123456789abcdef0123456789/01234567")
	f.Add("umbra//")
	f.Fuzz(func(t *testing.T, s string) {
		naa, tag, ok := ParseLoopName(s)
		if ok && LoopName(naa, tag) != s {
			t.Errorf("%q reads as %v %v, which is another name", s, naa, tag)
		}
	})
}
