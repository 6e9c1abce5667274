package document

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestDigestIsFixed pins the canonical encoding: tickets that storage systems
// signed long ago must still fit.
func TestDigestIsFixed(t *testing.T) {
	d := sample().Set.Digest()
	if got, want := hex.EncodeToString(d[:]), "43d36f2ae41b9a24c959c5aa224be94f57a7d016ca70653dca451efbaa4b8b93"; got != want {
		t.Fatalf("%s, want %s: change digestDomain with the encoding", got, want)
	}
}

// leaves calls f for every settable leaf below v and for every list, with the
// path to it.
func leaves(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			leaves(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			leaves(v.Elem(), path, f)
		}
	case reflect.Slice:
		f(path, v)
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.Array:
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	default:
		f(path, v)
	}
}

// changed makes a different value of the same type.
func changed(v reflect.Value) reflect.Value {
	n := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Bool:
		n.SetBool(!v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		n.SetInt(v.Int() + 1)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		n.SetUint(v.Uint() ^ 1)
	case reflect.String:
		n.SetString(v.String() + "x")
	case reflect.Slice:
		n.Set(reflect.AppendSlice(n, v))
		n.Set(reflect.Append(n, reflect.Zero(v.Type().Elem())))
	default:
		panic("the digest's test does not know " + v.Kind().String())
	}
	return n
}

func TestDigestCoversEveryField(t *testing.T) {
	d := sample()
	original := d.Set.Digest()
	digests := map[[32]byte]string{original: "the original"}
	n := 0
	leaves(reflect.ValueOf(d.Set).Elem(), "", func(path string, v reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.Set(changed(old))
		got := d.Set.Digest()
		v.Set(old)
		if strings.HasPrefix(path, ".Tickets") {
			if got != original {
				t.Errorf("the digest depends on %s, which signs it", path)
			}
			return
		}
		n++
		if other, ok := digests[got]; ok {
			t.Errorf("a change of %s has the same digest as %s", path, other)
		}
		digests[got] = "a change of " + path
	})
	if d.Set.Digest() != original {
		t.Fatal("the test did not put everything back")
	}
	if n < 300 {
		t.Fatalf("only %d fields were changed", n)
	}
}

func TestDigestIsUnambiguous(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Moving bytes between neighbouring fields must not go unseen.
		s := sample().Set
		text := rapid.StringN(2, 20, -1).Draw(t, "text")
		a := rapid.IntRange(0, len(text)).Draw(t, "a")
		b := rapid.IntRange(0, len(text)).Draw(t, "b")
		s.OriginatingMachine, s.ServiceMachine = text[:a], text[a:]
		first := s.Digest()
		s.OriginatingMachine, s.ServiceMachine = text[:b], text[b:]
		if (first == s.Digest()) != (a == b) {
			t.Fatalf("%q cut at %d and at %d", text, a, b)
		}
	})
}

func TestDigestIgnoresFormatting(t *testing.T) {
	d := sample()
	xml, err := Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	reversed := regexp.MustCompile(`(<extent) (offset="\d+") (length="\d+")/>`)
	for name, other := range map[string]string{
		"one line":   regexp.MustCompile(`\n\s*`).ReplaceAllString(string(xml), ""),
		"DOS lines":  strings.ReplaceAll(string(xml), "\n", "\r\n"),
		"attributes": reversed.ReplaceAllString(string(xml), `$1 $3   $2></extent>`),
		"quotes":     strings.ReplaceAll(string(xml), `"`, `'`),
		"comment":    strings.Replace(string(xml), "<snapshotSet", "<!-- seen --><snapshotSet", 1),
		"no header":  strings.TrimPrefix(string(xml), `<?xml version="1.0" encoding="UTF-8"?>`),
		"references": strings.ReplaceAll(string(xml), `"db1.example"`, `"d&#x62;1&#46;example"`),
		"prefix": strings.NewReplacer("xmlns=", "xmlns:u=", "</", "</u:", "<?", "<?", "<", "<u:").
			Replace(string(xml)),
	} {
		if other == string(xml) {
			t.Errorf("%s: nothing changed", name)
		}
		back, err := Unmarshal([]byte(other))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff(d, back) != "" || back.Set.Digest() != d.Set.Digest() {
			t.Errorf("%s: another document", name)
		}
	}
}
