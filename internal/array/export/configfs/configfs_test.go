package configfs

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// TestFS: what is there already and what is gone already is no error, and an
// attribute that the kernel does not have is one: it must not become a file.
func TestFS(t *testing.T) {
	c := FS(t.TempDir())
	for range 2 {
		if err := errors.Join(c.Mkdir("a"), c.Mkdir("b"), c.Link("a", "b/to")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Write("a/enable", "1"); !errors.Is(err, fs.ErrNotExist) || c.Exists("a/enable") {
		t.Errorf("an attribute nobody has: %v", err)
	}
	if err := os.WriteFile(c.At("a/enable"), []byte("0 \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Read("a/enable"); v != "0" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if names, err := c.List("b"); err != nil || len(names) != 1 || names[0] != "to" {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := c.List("a"); err != nil || len(names) != 0 {
		t.Errorf("an attribute counts as an object: %q, %v", names, err)
	}
	if names, err := c.List("nowhere"); err != nil || names != nil {
		t.Errorf("%q, %v", names, err)
	}
	if err := c.Rmdir("b"); err == nil {
		t.Error("a folder with a link in it went")
	}
	for range 2 {
		if err := errors.Join(c.Unlink("b/to"), c.Rmdir("b")); err != nil {
			t.Fatal(err)
		}
	}
	if c.Exists("b") || !c.Exists("a") {
		t.Error("the wrong one is gone")
	}
}
