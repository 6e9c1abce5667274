package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/vss"
)

// private is a Samba whose files are all in a folder of the test's own; no smbd
// runs.
func private(t *testing.T, more ...string) (s Samba, usershares string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, _, _, err := (Samba{}).programs(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	usershares = filepath.Join(dir, "usershares")
	text := fmt.Sprintf("[global]\nusershare path = %s\nusershare max shares = 10\n", usershares)
	for _, d := range []string{"private dir", "state directory", "cache directory", "lock directory", "pid directory", "ncalrpc dir"} {
		text += fmt.Sprintf("%s = %s\n", d, filepath.Join(dir, d))
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.Readers = []string{"Everyone"}
	s.Config = filepath.Join(dir, "smb.conf")
	if err := errors.Join(os.Mkdir(usershares, 0o700), os.Chmod(usershares, os.ModeSticky|0o770), os.WriteFile(s.Config, []byte(text+strings.Join(more, "\n")), 0o600)); err != nil {
		t.Fatal(err)
	}
	return s, usershares
}

func is(t *testing.T, what string, err error, want vss.HResult) {
	t.Helper()
	if got := vss.CodeOf(err); got != want {
		t.Errorf("%s: %v, want %s", what, err, want.Name())
	}
}

// TestUsershares with the real net usershare.
func TestUsershares(t *testing.T) {
	s, files := private(t, "[Fixed]", "path = /srv")
	ctx, id, a, b := t.Context(), vss.NewID(), t.TempDir(), t.TempDir()
	is(t, "a free name", s.Free(ctx, "Docs", a), vss.S_OK)
	is(t, "Publish", s.Publish(ctx, "Docs", a, id), vss.S_OK)
	is(t, "Publish again", s.Publish(ctx, "Docs", a, id), vss.S_OK)
	text, err := os.ReadFile(filepath.Join(files, "docs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"path=" + a, "usershare_acl=S-1-1-0:R", "guest_ok=n", "sharename=Docs", "comment=Shadow copy " + id.Bare() + " (read-only)"} {
		if !slices.Contains(strings.Split(string(text), "\n"), line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
	is(t, "its own name", s.Free(ctx, "docs", a), vss.S_OK)
	is(t, "a taken name", s.Free(ctx, "dOCS", b), vss.VSS_E_OBJECT_ALREADY_EXISTS)
	is(t, "a section's name", s.Free(ctx, "fixed", b), vss.VSS_E_OBJECT_ALREADY_EXISTS)
	is(t, "Publish another", s.Publish(ctx, "other", b, id), vss.S_OK)
	if all, err := s.List(ctx); err != nil || !slices.Contains(all, Entry{"docs", a}) || !slices.Contains(all, Entry{"other", b}) || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	is(t, "Withdraw of another's", s.Withdraw(ctx, "docs", b), vss.S_OK)
	if _, err := os.Stat(filepath.Join(files, "docs")); err != nil {
		t.Errorf("another's share was removed: %v", err)
	}
	is(t, "Withdraw", s.Withdraw(ctx, "docs", a), vss.S_OK)
	is(t, "Withdraw again", s.Withdraw(ctx, "docs", a), vss.S_OK)
	if all, err := s.List(ctx); err != nil || !slices.Equal(all, []Entry{{"other", b}}) {
		t.Errorf("%v, %v", all, err)
	}
	// What a reboot leaves: the file, without the folder.
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(ctx); err != nil || !slices.Equal(all, []Entry{{"other", b}}) {
		t.Errorf("%v, %v", all, err)
	}
	is(t, "a folder that is not there", s.Publish(ctx, "x", filepath.Join(a, "no"), id), vss.VSS_E_UNEXPECTED)

	// root would overwrite what a user shared under the name.
	if err := os.Chown(filepath.Join(files, "other"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	is(t, "a user's name", s.Free(ctx, "other", b), vss.VSS_E_OBJECT_ALREADY_EXISTS)
	is(t, "Withdraw of a user's", s.Withdraw(ctx, "other", b), vss.S_OK)
	if _, err := os.Stat(filepath.Join(files, "other")); err != nil {
		t.Error(err)
	}
	is(t, "Withdraw of what a reboot left", errors.Join(os.Chown(filepath.Join(files, "other"), 0, 0), s.Withdraw(ctx, "other", b)), vss.S_OK)
	if _, err := os.Stat(filepath.Join(files, "other")); err == nil {
		t.Error("a share without a folder stays")
	}
}

// TestSambaRefuses: switched off, no guests allowed, names without an smbd.
func TestSambaRefuses(t *testing.T) {
	s, _ := private(t)
	dir := t.TempDir()
	s.Guests = true
	is(t, "guests that smb.conf does not allow", s.Publish(t.Context(), "x", dir, vss.NewID()), vss.VSS_E_UNEXPECTED)
	s.Guests, s.Readers = false, []string{"nobody-of-this-name"}
	is(t, "an unknown reader", s.Publish(t.Context(), "x", dir, vss.NewID()), vss.VSS_E_UNEXPECTED)
	s.Readers = []string{"everyone", "S-1-22-1-65534"}
	is(t, "two readers", s.Publish(t.Context(), "x", dir, vss.NewID()), vss.S_OK)
	off, _ := private(t, "[global]", "usershare max shares = 0")
	is(t, "usershares switched off", off.Publish(t.Context(), "x", dir, vss.NewID()), vss.VSS_E_NOT_SUPPORTED)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Publish(ctx, "y", dir, vss.NewID()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
