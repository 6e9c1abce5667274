package share

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/vss"
)

// TestShare: a subtree of a real filesystem, as a real usershare.
func TestShare(t *testing.T) {
	samba, files := private(t)
	h := looptest.NewHost(t)
	dev := h.Attach(t, looptest.FileIn(t, t.TempDir(), 32<<20), false)
	looptest.Mkfs(t, "ext4", dev.Path)
	root := looptest.Mount(t, "ext4", dev.Path, "")
	for _, err := range []error{os.MkdirAll(filepath.Join(root, "a/b"), 0o755), os.WriteFile(filepath.Join(root, "a/b/f"), []byte("x"), 0o644),
		os.Symlink("/a/b", filepath.Join(root, "inside")), os.Symlink("/etc", filepath.Join(root, "outside")), os.Symlink("../../../../etc", filepath.Join(root, "up"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	s := &Shares{Dir: filepath.Join(t.TempDir(), "shares"), Default: TypeSamba, Servers: map[string]Server{TypeSamba: samba}}
	sh := Share{Type: TypeSamba, Name: "docs", Copy: vss.NewID(), Root: root, Device: dev}
	for path, want := range map[string]vss.HResult{"no": vss.E_INVALIDARG, "a/b/f": vss.E_INVALIDARG, "outside": vss.E_INVALIDARG, "up": vss.E_INVALIDARG} {
		sh.Path = path
		is(t, path, s.Mount(ctx, sh), want)
		if _, err := os.Stat(filepath.Join(s.Dir, "docs")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s left its folder: %v", path, err)
		}
	}
	other := sh
	other.Device.Minor++
	is(t, "another device", s.Mount(ctx, other), vss.VSS_E_OBJECT_NOT_FOUND)

	for _, path := range []string{"inside", "a/b"} {
		sh.Path = path
		is(t, "Mount", s.Mount(ctx, sh), vss.S_OK)
		is(t, "Mount again", s.Mount(ctx, sh), vss.S_OK)
		is(t, "Publish", s.Publish(ctx, sh), vss.S_OK)
		target := filepath.Join(s.Dir, "docs")
		if text, err := os.ReadFile(filepath.Join(target, "f")); err != nil || string(text) != "x" {
			t.Errorf("%q, %v", text, err)
		}
		if err := os.WriteFile(filepath.Join(target, "g"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("written: %v", err)
		}
		if st, err := os.Stat(s.Dir); err != nil || st.Mode().Perm() != 0o711 {
			t.Errorf("%v, %v", st, err)
		}
		is(t, "Withdraw", s.Withdraw(ctx, sh), vss.S_OK)
		f, err := os.Open(filepath.Join(target, "f"))
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		if err := s.Unmount(short, sh); err == nil {
			t.Error("unmounted in use")
		}
		cancel()
		f.Close()
		is(t, "Unmount", s.Unmount(ctx, sh), vss.S_OK)
		is(t, "Unmount again", s.Unmount(ctx, sh), vss.S_OK)
	}

	// What is not to be kept goes, and nothing of anybody else.
	for _, name := range []string{"kept", "lost"} {
		sh.Name = name
		if err := errors.Join(s.Mount(ctx, sh), s.Publish(ctx, sh)); err != nil {
			t.Fatal(err)
		}
	}
	if err := samba.Publish(ctx, "theirs", t.TempDir(), vss.NewID()); err != nil {
		t.Fatal(err)
	}
	removed, err := s.Sweep(ctx, map[string]bool{"kept": true})
	if err != nil || !slices.Equal(removed, []string{"lost"}) {
		t.Errorf("%v, %v", removed, err)
	}
	if left, err := os.ReadDir(files); err != nil || len(left) != 2 || left[0].Name() != "kept" || left[1].Name() != "theirs" {
		t.Errorf("%v, %v", left, err)
	}
	if left, err := os.ReadDir(s.Dir); err != nil || len(left) != 1 || left[0].Name() != "kept" {
		t.Errorf("%v, %v", left, err)
	}
	removed, err = s.Sweep(ctx, nil)
	if err != nil || !slices.Equal(removed, []string{"kept"}) {
		t.Errorf("%v, %v", removed, err)
	}
}

// TestNoServer: nothing configured, or nothing known.
func TestNoServer(t *testing.T) {
	s := &Shares{Dir: t.TempDir()}
	_, err := s.Type()
	is(t, "no type", err, vss.VSS_E_NOT_SUPPORTED)
	for _, err := range []error{s.Free(t.Context(), Share{Type: "x"}), s.Publish(t.Context(), Share{Type: "x"}), s.Withdraw(t.Context(), Share{Type: "x"})} {
		is(t, "unknown type", err, vss.VSS_E_NOT_SUPPORTED)
	}
	err = absent("Samba", "samba", errors.Join(unix.ENOENT))
	is(t, "absent", err, vss.VSS_E_NOT_SUPPORTED)
}
