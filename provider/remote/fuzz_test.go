package remote

import (
	"testing"

	"google.golang.org/protobuf/proto"

	providerv1 "github.com/umbra-vss/umbra/internal/gen/umbra/provider/v1"
	"github.com/umbra-vss/umbra/lun"
)

// Whatever a provider answers is refused, or is what the document can hold and
// the other machine can find.
func FuzzAnswer(f *testing.F) {
	for _, m := range []*providerv1.LUNsResponse{{}, {Luns: []*providerv1.LUNInfo{copyLUN(1)}}, {Luns: []*providerv1.LUNInfo{copyLUN(1), copyLUN(2), nil}},
		{Luns: []*providerv1.LUNInfo{{Version: 1, StorageIds: []*providerv1.StorageID{nil}}}}} {
		b, err := proto.Marshal(m)
		if err != nil {
			b = nil // a nil in it
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m providerv1.LUNsResponse
		if proto.Unmarshal(b, &m) != nil || len(m.Luns) > 64 {
			return
		}
		out, err := soundLUNs(m.Luns, len(m.Luns))
		if err != nil {
			return
		}
		source := make([]lun.Info, len(out))
		for i := range source {
			source[i] = fromLUN(copyLUN(byte(100 + i)))
		}
		if soundTargets(source, out) != nil {
			return
		}
		names := map[string]bool{}
		for i, l := range out {
			if len(l.QualifyingIDs()) == 0 || lun.Match(source[i], l) == nil || names[l.Name()] {
				t.Fatalf("%+v passes as a copy of %s", l, source[i].Name())
			}
			names[l.Name()] = true
		}
	})
}

// A manifest is refused with a reason, or says who the provider is and one way to it.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Add([]byte(goodManifest + "idle = \"-1s\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		if idle, err := m.idle(); m.ID.IsNull() || m.Name == "" || (m.Program == "") == (m.Socket == "") || err != nil || idle < 0 {
			t.Fatalf("%+v passes", m)
		}
	})
}
