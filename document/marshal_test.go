package document

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write the golden files anew")

// diff compares documents as values: no list and an empty list are equal.
func diff(a, b *Document) string { return cmp.Diff(a, b, cmpopts.EquateEmpty()) }

// golden compares XML with the file that pins it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Fatalf("documents that are out there would not be read any more:\n%s", d)
	}
}

func TestGolden(t *testing.T) {
	for name, d := range map[string]*Document{"set.xml": sample(), "components.xml": sampleComponents()} {
		b, err := Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, b)
		back, err := Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(d, back); d != "" {
			t.Fatal(d)
		}
	}
}

func TestWithoutSet(t *testing.T) {
	d := &Document{}
	b, err := Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	d.SchemaVersion = firstSchema
	if s := diff(d, back); s != "" {
		t.Fatal(s)
	}
}

func TestBundleRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := WriteBundle(&b, sample()); err != nil {
		t.Fatal(err)
	}
	back, err := Read(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(sample(), back); d != "" {
		t.Fatal(d)
	}
	xml, err := Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	if back, err = Read(xml); err != nil || diff(sample(), back) != "" {
		t.Fatalf("bare XML: %v", err)
	}
}
