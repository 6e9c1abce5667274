package document

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

func sampleBundle(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteBundle(&b, sample()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sampleXML(t testing.TB) []byte {
	t.Helper()
	b, err := Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pack(t testing.TB, members ...member) []byte {
	t.Helper()
	b, err := archive(members)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBundleLayout(t *testing.T) {
	b := sampleBundle(t)
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "backup-components.xml manifest" {
		t.Fatal(got)
	}
	r, err := z.Open("backup-components.xml")
	if err != nil {
		t.Fatal(err)
	}
	xml, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(xml, sampleXML(t)) {
		t.Fatalf("any zip tool must give the document: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	whole, xml := sampleBundle(t), sampleXML(t)
	doc := member{memberComponents, xml}
	edited := bytes.Replace(xml, []byte("/srv/postgresql"), []byte("/srv/postgresq1"), 1)
	foreign := func(opts ...func(*zip.FileHeader)) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, m := range []member{doc, {memberManifest, manifest(firstSchema, []member{doc})}} {
			h := &zip.FileHeader{Name: m.name, Method: zip.Deflate}
			for _, o := range opts {
				o(h)
			}
			w, err := z.CreateHeader(h)
			if err == nil {
				_, err = w.Write(m.data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	comment := bytes.Clone(whole)
	comment[len(comment)-2] = 5
	localHeader := bytes.Clone(whole)
	localHeader[10] ^= 1 // the local header's time; the directory still says 0
	localName := bytes.Clone(whole)
	localName[zipLocalHeader] ^= 1
	crc := bytes.Clone(whole)
	crc[zipLocalHeader+len(memberComponents)+40] ^= 1
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"blank":               []byte(" \n"),
		"PK":                  []byte("PK"),
		"text":                []byte("not a bundle"),
		"empty zip":           pack(t),
		"foreign zip":         pack(t, member{"readme.txt", []byte("hello")}),
		"trailing garbage":    append(bytes.Clone(whole), 0),
		"second bundle":       append(bytes.Clone(whole), whole...),
		"leading garbage":     append([]byte("PK"), whole...),
		"comment":             append(comment, "hello"...),
		"local header":        localHeader,
		"local name":          localName,
		"damaged data":        crc,
		"data descriptors":    foreign(),
		"stored":              foreign(func(h *zip.FileHeader) { h.Method = zip.Store }),
		"extra fields":        foreign(func(h *zip.FileHeader) { h.Extra = []byte{1, 0, 0, 0} }),
		"no manifest":         pack(t, doc),
		"manifest first":      pack(t, member{memberManifest, manifest(firstSchema, []member{doc})}, doc),
		"altered document":    pack(t, member{memberComponents, edited}, member{memberManifest, manifest(firstSchema, []member{doc})}),
		"altered throughout":  pack(t, member{memberComponents, edited}, member{memberManifest, manifest(firstSchema, []member{{memberComponents, edited}})}),
		"unknown member":      pack(t, doc, member{"evil", nil}, member{memberManifest, manifest(firstSchema, []member{doc, {"evil", nil}})}),
		"member twice":        pack(t, doc, doc, member{memberManifest, manifest(firstSchema, []member{doc, doc})}),
		"path outside":        pack(t, doc, member{"../evil", nil}, member{memberManifest, manifest(firstSchema, []member{doc, {"../evil", nil}})}),
		"newer bundle":        pack(t, doc, member{memberManifest, []byte("umbra-bundle 3\nwhatever")}),
		"manifest of another": pack(t, doc, member{memberManifest, []byte("hello")}),
		"manifest and more":   pack(t, doc, member{memberManifest, append(manifest(firstSchema, []member{doc}), '\n')}),
		"empty document":      pack(t, member{memberComponents, nil}, member{memberManifest, manifest(firstSchema, []member{{memberComponents, nil}})}),
		"too large":           append([]byte("PK\x03\x04"), make([]byte, MaxSize)...),
		"bomb":                pack(t, member{memberComponents, make([]byte, MaxSize+1)}, member{memberManifest, nil}),
		"bomb in parts":       pack(t, member{memberComponents, make([]byte, MaxSize/2)}, member{"x", make([]byte, MaxSize/2)}, member{memberManifest, []byte("x")}),
	} {
		d, err := Read(b)
		var e *vss.Error
		if d != nil || !errors.As(err, &e) || e.Code != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Errorf("%s: %v, %v", name, d, err)
		} else if e.Op == "" || e.Object == "" || e.Reason == "" || e.Remedy == "" {
			t.Errorf("%s: incomplete: %#v", name, e)
		}
	}
}

func TestBundleVersionSaysUpdate(t *testing.T) {
	_, err := Read(pack(t, member{memberComponents, sampleXML(t)}, member{memberManifest, []byte("umbra-bundle 3\n")}))
	var e *vss.Error
	if !errors.As(err, &e) || e.Remedy != remedyUpdate {
		t.Fatalf("%#v", err)
	}
}

// TestLyingSizes gives members that unpack to more, or less, than they say.
func TestLyingSizes(t *testing.T) {
	for _, said := range []uint32{0, 1, uint32(len(sampleXML(t)) - 1), uint32(len(sampleXML(t)) + 1), 1 << 31} {
		b := sampleBundle(t)
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		directory := zipLocalHeader*2 + len(memberComponents) + len(memberManifest) +
			int(z.File[0].CompressedSize64+z.File[1].CompressedSize64)
		binary.LittleEndian.PutUint32(b[22:], said)
		binary.LittleEndian.PutUint32(b[directory+24:], said)
		if _, err := Read(b); vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Errorf("%d: %v", said, err)
		}
	}
}

// TestEveryByteCounts flips two bits of every byte of a bundle, one at a time:
// what still reads must be the same document.
func TestEveryByteCounts(t *testing.T) {
	whole := sampleBundle(t)
	want := sample().Set.Digest()
	accepted := 0
	for i := range whole {
		for _, bit := range []int{i % 8, (i + 5) % 8} {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			d, err := Read(b)
			if err != nil {
				if vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
					t.Fatalf("byte %d bit %d: %v", i, bit, err)
				}
				continue
			}
			accepted++
			if d.Set.Digest() != want || diff(d, sample()) != "" {
				t.Fatalf("byte %d bit %d: another document", i, bit)
			}
		}
	}
	// Version, attribute and disk number fields of the directory that no
	// reader looks at.
	if accepted > 2*80 {
		t.Errorf("%d flipped bits went unseen", accepted)
	}
	t.Logf("%d of %d flipped bits are in fields without meaning", accepted, len(whole)*2)
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWriteBundleFails(t *testing.T) {
	err := WriteBundle(full{}, sample())
	var e *vss.Error
	if !errors.As(err, &e) || e.Code != vss.VSS_E_UNEXPECTED || e.Remedy == "" || e.Err == nil {
		t.Fatalf("%#v", err)
	}
}
