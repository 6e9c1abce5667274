package image

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// entries reads an archive as the kernel does: by its lengths.
func entries(t *testing.T, b []byte) (names []string, content map[string]string) {
	t.Helper()
	content = map[string]string{}
	hex := func(i int) int {
		n, err := strconv.ParseInt(string(b[6+8*i:14+8*i]), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	aligned := func(n int) int { return (n + 3) &^ 3 }
	for at := 0; ; {
		if string(b[:6]) != "070701" {
			t.Fatalf("no header at %d: %q", at, b[:6])
		}
		size, length := hex(6), hex(11)
		name := string(b[110 : 110+length-1])
		if b[110+length-1] != 0 {
			t.Fatalf("the name %q does not end", name)
		}
		from := aligned(110 + length)
		names, content[name] = append(names, name), string(b[from:from+size])
		next := aligned(from + size)
		if name == "TRAILER!!!" {
			if rest := bytes.Trim(b[next:], "\x00"); len(rest) > 0 || (at+len(b))%512 != 0 {
				t.Errorf("behind the end: %q, length %d", rest, at+len(b))
			}
			return names, content
		}
		at, b = at+next, b[next:]
	}
}

func TestArchive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("12345"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := newArchive(&out)
	for _, err := range []error{a.copy("usr/bin/x", file), a.symlink("usr/bin/y", "x"), a.data("usr/lib/z", 0o644, nil), a.close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	names, content := entries(t, out.Bytes())
	if want := []string{"usr", "usr/bin", "usr/bin/x", "usr/bin/y", "usr/lib", "usr/lib/z", "TRAILER!!!"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v: folders come before what is in them, once", names, want)
	}
	if content["usr/bin/x"] != "12345" || content["usr/bin/y"] != "x" || content["usr/lib/z"] != "" {
		t.Errorf("%v", content)
	}
}

func TestOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "modules.dep")
	if err := os.WriteFile(file, []byte("k/a-b.ko: k/c.ko k/d.ko\nk/c.ko: k/d.ko\nk/d.ko:\nk/e.ko: k/d.ko\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := readNeeds(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.order([]string{"a_b", "e"})
	if want := []string{"k/d.ko", "k/c.ko", "k/a-b.ko", "k/e.ko"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := n.order([]string{"x"}); err == nil {
		t.Error("a module that is not there has an order")
	}
}
