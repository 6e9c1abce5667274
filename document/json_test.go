package document

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestJSONKeepsEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := anyDocument().Filter(func(d *Document) bool { return d.Set != nil }).Draw(t, "document").Set
		b, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var back SnapshotSet
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(*set, back, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		if back.Digest() != set.Digest() {
			t.Fatal("another digest")
		}
	})
}

func TestJSONLeavesTheValueAlone(t *testing.T) {
	d := sample()
	d.Set.Snapshots[0].Filesystem.DeviceUUIDs = []string{"\xff"}
	d.Set.Snapshots[0].Filesystem.DeviceCount = 1
	want := d.Set.Digest()
	b, err := json.Marshal(d.Set)
	if err != nil {
		t.Fatal(err)
	}
	if d.Set.Digest() != want {
		t.Fatal("marshalling changed the set")
	}
	if !strings.Contains(string(b), `"OriginalVolumeName":"/srv/postgresql"`) {
		t.Fatalf("not readable: %s", b)
	}
	for _, broken := range []string{`[]`, `{"OriginatingMachine":"\\"}`, `{"Snapshots":[{"OriginalVolumeName":"\\x"}]}`,
		`{"Snapshots":[{"Filesystem":{"Label":"\t"}}]}`, `{"Snapshots":[{"LUNs":[{"Source":{"vendor_id":"\\"}}]}]}`} {
		if err := json.Unmarshal([]byte(broken), new(SnapshotSet)); err == nil {
			t.Errorf("%s was read", broken)
		}
	}
}

func TestLookups(t *testing.T) {
	s := sample().Set
	p := s.Snapshots[0].ProviderID
	if !s.Transportable() || s.Snapshot(s.Snapshots[1].ID) != &s.Snapshots[1] || s.Snapshot(s.ID) != nil {
		t.Error("snapshots")
	}
	if string(s.Ticket(p)) != string(s.Tickets[0].Data) || s.Ticket(s.ID) != nil {
		t.Error("tickets")
	}
	if len(s.TargetLUNs(p)) != 3 || s.TargetLUNs(s.ID) != nil {
		t.Error("LUNs")
	}
	s.Snapshots[1].LUNs = s.Snapshots[0].LUNs
	if got := s.TargetLUNs(p); len(got) != 1 || got[0].Name() != testLUN(101).Name() {
		t.Errorf("a shared LUN is listed %d times", len(got))
	}
	s.Snapshots[0].LUNs = nil
	if s.Transportable() {
		t.Error("a copy without LUNs does not travel")
	}
	if s.Attributes = 0; s.Transportable() || new(SnapshotSet).Transportable() {
		t.Error("not created to travel")
	}
}
