package document

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/umbra-vss/umbra/vss"
)

func TestRoundTripOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDocument().Draw(t, "document")
		xml, err := Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(xml)
		if err != nil {
			t.Fatalf("%v\n%s", err, xml)
		}
		if s := diff(d, back); s != "" {
			t.Fatal(s)
		}
		if again, err := Marshal(back); err != nil || !bytes.Equal(xml, again) {
			t.Fatalf("equal documents, different bytes: %v", err)
		}
		if d.Set != nil && d.Set.Digest() != back.Set.Digest() {
			t.Fatal("the digest did not survive")
		}
		var bundle bytes.Buffer
		if err := WriteBundle(&bundle, d); err != nil {
			t.Fatal(err)
		}
		if back, err = Read(bundle.Bytes()); err != nil || diff(d, back) != "" {
			t.Fatalf("bundle: %v", err)
		}
		writers := rapid.SliceOfNDistinct(anyWriter(), 0, 2, func(w *WriterMetadata) vss.ID { return w.InstanceID }).Draw(t, "writers")
		bundle.Reset()
		if err := WriteBundle(&bundle, d, writers...); err != nil {
			t.Fatal(err)
		}
		all, err := ReadBundle(bundle.Bytes())
		if err != nil || diff(d, all.Document) != "" || len(all.Writers) != len(writers) {
			t.Fatalf("bundle with writers: %v", err)
		}
		for _, w := range writers {
			if s := diffWriter(w, all.Writer(w.InstanceID)); s != "" {
				t.Fatal(s)
			}
		}
	})
}

func TestEscape(t *testing.T) {
	for s, want := range map[string]string{
		"":                      "",
		"/srv/data":             "/srv/data",
		`a\b`:                   `a\\b`,
		`\x41`:                  `\\x41`,
		"tab\tline\nreturn\r":   `tab\x09line\x0areturn\x0d`,
		"\x00\x7f":              `\x00\x7f`,
		"\xff\xfe":              `\xff\xfe`,
		"ü€😀":                   "ü€😀",
		"\u0085\u2028\ufeff":    `\xc2\x85\xe2\x80\xa8\xef\xbb\xbf`,
		"\ufffd is a character": "\ufffd is a character",
		"\ufffe":                `\xef\xbf\xbe`,
		"\xed\xa0\x80":          `\xed\xa0\x80`, // a surrogate is no character
		" blank ends ":          " blank ends ",
		`<&>"'`:                 `<&>"'`,
	} {
		if got := escape(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
		if back, err := unescape(want); err != nil || back != s {
			t.Errorf("%q back: %q, %v", want, back, err)
		}
	}
	for _, s := range []string{`\`, `\x`, `\x4`, `\x41`, `\xFF`, `\n`, "\t", "\n", `\xc3\xbc`, "\u2028", "\xff", `a\`} {
		if got, err := unescape(s); err == nil {
			t.Errorf("%q is a second spelling of %q", s, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := anyBytes(0).Draw(t, "s")
		if back, err := unescape(escape(s)); err != nil || back != s {
			t.Fatalf("%q: %q, %v", s, back, err)
		}
	})
}
