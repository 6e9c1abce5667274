package document

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

func secondWriter() *WriterMetadata {
	w := sampleWriter()
	w.InstanceID[0], w.Name = 1, "second"
	return w
}

func writersBundle(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteBundle(&b, sampleComponents(), sampleWriter(), secondWriter()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBundleWithWriters(t *testing.T) {
	b := writersBundle(t)
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	const want = "backup-components.xml writers/01bbbbbb-0000-4000-8000-000000000001.xml writers/bbbbbbbb-0000-4000-8000-000000000001.xml manifest"
	if got := strings.Join(names, " "); got != want {
		t.Fatal(got)
	}
	all, err := ReadBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff(all.Document, sampleComponents()) != "" || len(all.Writers) != 2 || diffWriter(all.Writers[0], secondWriter()) != "" ||
		diffWriter(all.Writer(testInstance), sampleWriter()) != "" || all.Writer(testWriter) != nil {
		t.Fatal("not what was written")
	}
	if d, err := Read(b); err != nil || diff(d, sampleComponents()) != "" {
		t.Fatalf("Read: %v", err)
	}
	var swapped bytes.Buffer
	if err := WriteBundle(&swapped, sampleComponents(), secondWriter(), sampleWriter()); err != nil || !bytes.Equal(swapped.Bytes(), b) {
		t.Fatalf("the order of the arguments is in the bundle: %v", err)
	}
	for name, b := range map[string][]byte{"bundle": sampleBundle(t), "XML": sampleXML(t)} {
		if all, err := ReadBundle(b); err != nil || len(all.Writers) != 0 || diff(all.Document, sample()) != "" {
			t.Errorf("%s without writers: %v", name, err)
		}
	}
}

// TestPlainBundlesStay: what older readers take is still written for them.
func TestPlainBundlesStay(t *testing.T) {
	for want, b := range map[string][]byte{"umbra-bundle 1\nschema 1.0\n": sampleBundle(t), "umbra-bundle 2\nschema 1.1\n": writersBundle(t)} {
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		m, f := inflate(z.File[len(z.File)-1])
		if f != nil || !strings.HasPrefix(string(m), want) {
			t.Errorf("%q, want %q", m, want)
		}
	}
}

func TestReadBundleRefuses(t *testing.T) {
	doc := member{memberComponents, sampleXML(t)}
	first, second := writerXML(t, secondWriter()), writerXML(t, sampleWriter())
	a := member{memberWriter(secondWriter()), first}
	b := member{memberWriter(sampleWriter()), second}
	whole := func(schema string, members ...member) []byte {
		return pack(t, append(slices.Clone(members), member{memberManifest, manifest(schema, members)})...)
	}
	version := func(v string, members ...member) []byte {
		m := manifest(firstSchema, members)
		_, rest, _ := strings.Cut(string(m), "\n")
		return pack(t, append(slices.Clone(members), member{memberManifest, []byte(bundleMagic + v + "\n" + rest)})...)
	}
	if all, err := ReadBundle(whole(firstSchema, doc, a, b)); err != nil || len(all.Writers) != 2 {
		t.Fatalf("the test's own bundle: %v", err)
	}
	many := []member{doc}
	for i := range MaxWriters + 1 {
		w := sampleWriter()
		w.InstanceID = vss.ID{0: 1, 1: byte(i)}
		many = append(many, member{memberWriter(w), writerXML(t, w)})
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(a.name, "writers/"), ".xml")
	for name, raw := range map[string][]byte{
		"not in order":              whole(firstSchema, doc, b, a),
		"twice":                     whole(firstSchema, doc, a, a),
		"another's name":            whole(firstSchema, doc, member{a.name, second}),
		"upper case":                whole(firstSchema, doc, member{strings.ToUpper(a.name), first}),
		"upper-case ID":             whole(firstSchema, doc, member{"writers/" + strings.ToUpper(bare) + ".xml", first}),
		"braces":                    whole(firstSchema, doc, member{"writers/{" + bare + "}.xml", first}),
		"no ID":                     whole(firstSchema, doc, member{"writers/.xml", first}),
		"no folder":                 whole(firstSchema, doc, member{bare + ".xml", first}),
		"no suffix":                 whole(firstSchema, doc, member{"writers/" + bare, first}),
		"path outside":              whole(firstSchema, doc, member{"writers/../" + bare + ".xml", first}),
		"absolute":                  whole(firstSchema, doc, member{"/" + a.name, first}),
		"not metadata":              whole(firstSchema, doc, member{a.name, doc.data}),
		"empty":                     whole(firstSchema, doc, member{a.name, nil}),
		"too many":                  whole(firstSchema, many...),
		"too large":                 whole(firstSchema, doc, member{a.name, bytes.Repeat([]byte(" "), MaxWriterMetadata+1)}),
		"writers before document":   whole(firstSchema, a, doc),
		"version 1 with writers":    version(bundleAlone, doc, a),
		"version 2 without writers": version(bundleWriters, doc),
		"version 3":                 version("3", doc, a),
		"no version":                version("", doc, a),
		"another schema":            whole(CurrentSchema, doc),
		"unknown schema":            whole("1.7", doc),
		"schema of three lines":     whole("1.0\nschema 1.0", doc),
		"altered":                   pack(t, doc, member{a.name, bytes.Replace(first, []byte("/srv/log"), []byte("/srv/lag"), 1)}, member{memberManifest, manifest(firstSchema, []member{doc, a})}),
	} {
		all, err := ReadBundle(raw)
		var e *vss.Error
		if all != nil || !errors.As(err, &e) || e.Code != vss.VSS_E_INVALID_XML_DOCUMENT || e.Object == "" || e.Reason == "" || e.Remedy == "" {
			t.Errorf("%s: %v, %v", name, all, err)
		}
		if d, err := Read(raw); d != nil || err == nil {
			t.Errorf("%s: Read takes it", name)
		}
	}
}

func TestWriteBundleRefuses(t *testing.T) {
	var many, large []*WriterMetadata
	for i := range MaxWriters + 1 {
		w := sampleWriter()
		w.InstanceID = vss.ID{0: 1, 1: byte(i)}
		many = append(many, w)
	}
	for i := range 5 {
		w := sampleWriter()
		w.InstanceID = vss.ID{0: 1, 1: byte(i)}
		for n := range 900 {
			w.Exclude = append(w.Exclude, FileSet{Path: "/" + strings.Repeat("x", maxText-1), FileSpec: fmt.Sprint(n)})
		}
		large = append(large, w)
	}
	for name, writers := range map[string][]*WriterMetadata{
		"the same twice": {sampleWriter(), sampleWriter()}, "too many": many, "too large": large,
	} {
		var b bytes.Buffer
		if err := WriteBundle(&b, sample(), writers...); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT || b.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", name, err, b.Len())
		}
	}
	var b bytes.Buffer
	if err := WriteBundle(&b, sample(), many[:MaxWriters]...); err != nil {
		t.Fatal(err)
	}
	if all, err := ReadBundle(b.Bytes()); err != nil || len(all.Writers) != MaxWriters {
		t.Fatal(err)
	}
}

// TestEveryByteOfWritersCounts is TestEveryByteCounts for a bundle with writers.
func TestEveryByteOfWritersCounts(t *testing.T) {
	whole := writersBundle(t)
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		all, err := ReadBundle(b)
		if err != nil {
			if vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
				t.Fatalf("byte %d: %v", i, err)
			}
			continue
		}
		if diff(all.Document, sampleComponents()) != "" || len(all.Writers) != 2 || diffWriter(all.Writers[0], secondWriter()) != "" ||
			diffWriter(all.Writers[1], sampleWriter()) != "" {
			t.Fatalf("byte %d: another bundle", i)
		}
	}
}
