package document

import (
	"bytes"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// accepted checks what must hold for any input: a clean refusal, or a document
// that is valid and comes back the same.
func accepted(t *testing.T, d *Document, err error) {
	t.Helper()
	if err != nil {
		if d != nil || vss.CodeOf(err) != vss.VSS_E_INVALID_XML_DOCUMENT {
			t.Fatalf("%v, %v", d, err)
		}
		return
	}
	b, err := Marshal(d)
	if err != nil {
		t.Fatalf("read but not writable: %v", err)
	}
	back, err := Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if s := diff(d, back); s != "" {
		t.Fatal(s)
	}
}

func seeds(f *testing.F) [][]byte {
	empty, err := Marshal(&Document{})
	if err != nil {
		f.Fatal(err)
	}
	full, err := Marshal(sampleComponents())
	if err != nil {
		f.Fatal(err)
	}
	return [][]byte{sampleXML(f), empty, full}
}

func FuzzUnmarshal(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Unmarshal(b)
		accepted(t, d, err)
	})
}

func FuzzRead(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	bundle := sampleBundle(f)
	f.Add(bundle)
	f.Add(bundle[:len(bundle)/2])
	f.Add(writersBundle(f))
	f.Add([]byte("PK\x05\x06" + string(make([]byte, 18))))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Read(b)
		accepted(t, d, err)
	})
}

// FuzzMember lets the fuzzer at the document inside a bundle, past the
// checksums that would stop it.
func FuzzMember(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, xml []byte) {
		doc, schema := member{memberComponents, xml}, firstSchema
		if d, err := Unmarshal(xml); err == nil {
			schema = d.SchemaVersion
		}
		b, err := archive([]member{doc, {memberManifest, manifest(schema, []member{doc})}})
		if err != nil {
			t.Fatal(err)
		}
		fromBundle, errBundle := Read(b)
		accepted(t, fromBundle, errBundle)
		bare, errBare := Unmarshal(xml)
		if (errBundle == nil) != (errBare == nil) || errBare == nil && diff(fromBundle, bare) != "" {
			t.Fatalf("bundle and bare XML differ: %v, %v", errBundle, errBare)
		}
		if !bytes.Equal(b[:2], []byte("PK")) {
			t.Fatal("no archive")
		}
	})
}
