package hide

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

func naaLUN(t testing.TB) lun.Info {
	t.Helper()
	naa, err := lun.ParseNAA("naa.6001405123456789abcdef0123456789")
	if err != nil {
		t.Fatal(err)
	}
	return lun.Info{Version: 1, StorageIDs: []lun.StorageID{naa.StorageID()}}
}

func named(id string) lun.Info {
	return lun.Info{Version: 1, StorageIDs: []lun.StorageID{{CodeSet: lun.CodeSetUTF8, Type: lun.IDSCSINameString, Identifier: []byte(id)}}}
}

func TestHideAndUnhide(t *testing.T) {
	reloads := 0
	r := Rules{Dir: filepath.Join(t.TempDir(), "made", "rules.d"), Reload: func(context.Context) error { reloads++; return nil }}
	luns := []lun.Info{naaLUN(t), named("eui.0025385a01020304")}
	for range 2 { // idempotent
		if err := r.Hide(t.Context(), luns); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(r.Dir, "10-umbra-naa.6001405123456789abcdef0123456789.rules")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`ENV{.UMBRA_WWID}=="", KERNEL!="loop*|dm-*|nbd*", ATTRS{wwid}=="?*", ENV{.UMBRA_WWID}="$attr{wwid}"`,
		`ENV{.UMBRA_WWID}=="naa.6001405123456789abcdef0123456789|uuid.01405123-4567-889a-8bcd-ef0123456789|eui.abcdef01234567890014051234567896", ENV{SYSTEMD_READY}="0"`,
		`ENV{.UMBRA_WWID}=="naa.6001405123456789abcdef0123456789", ENV{ID_SERIAL}="36001405123456789abcdef0123456789"`,
		`KERNEL=="nbd*", ATTRS{backend}=="umbra/naa.6001405123456789abcdef0123456789*", `,
		`KERNEL=="loop*", ATTRS{loop/backing_file}=="*naa.6001405123456789abcdef0123456789*", `,
		`ENV{ID_WWN_WITH_EXTENSION}=="0x6001405123456789abcdef0123456789", `,
		`ENV{ID_SERIAL}=="36001405123456789abcdef0123456789", `,
		`ENV{SYSTEMD_READY}="0"`, `ENV{UDISKS_IGNORE}="1"`, `ENV{DM_MULTIPATH_DEVICE_PATH}="0"`,
		`ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if n := files(t, r.Dir); n != 2 {
		t.Errorf("%d files", n)
	}
	if text, err := os.ReadFile(filepath.Join(r.Dir, nbdFile)); err != nil || !strings.Contains(string(text), "ATTRS{backend}==\"umbra/*\", GOTO=\"umbra_end\"\nKERNEL==\"nbd2[0-9][0-9][0-9]*\", ENV{SYSTEMD_READY}=\"0\"") {
		t.Errorf("a device without its name is not hidden: %v\n%s", err, text)
	}
	// The rules of hiding itself are files of their own, which stay.
	if text, err := os.ReadFile(filepath.Join(r.Dir, multipathFile)); err != nil || !strings.Contains(string(text), "ENV{SCSI_IDENT_LUN_NAA_REGEXT}=\"\"\n") {
		t.Errorf("multipathd is not told: %v\n%s", err, text)
	}
	for range 2 {
		if err := r.Unhide(t.Context(), luns); err != nil {
			t.Fatal(err)
		}
	}
	if n := files(t, r.Dir); n != 0 {
		t.Errorf("%d files left", n)
	}
	if reloads != 2 {
		t.Errorf("%d reloads: rules of what is gone need none", reloads)
	}
}

// TestFamily: an array's rules except what is admitted, and are not confused
// with a LUN's.
func TestFamily(t *testing.T) {
	reloads := 0
	r := Rules{Dir: t.TempDir(), Reload: func(context.Context) error { reloads++; return nil }}
	if err := r.HideFamily(t.Context(), "6001405123456789"); err != nil {
		t.Fatal(err)
	}
	if err := r.Admit(t.Context(), []lun.Info{naaLUN(t)}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"10-umbra-array-6001405123456789.rules": {
			`ENV{UMBRA_ADMITTED}=="1", GOTO="umbra_end"`, `ENV{.UMBRA_WWID}=="naa.6001405123456789*|uuid.01405123-4567-889?-8???-????????????|eui.????????????????0014051234567896", ENV{SYSTEMD_READY}="0"`,
			`ENV{.UMBRA_WWID}=="naa.6001405123456789*", ENV{ID_SERIAL}="$env{.UMBRA_WWID}"`,
			`ATTRS{loop/backing_file}=="*naa.6001405123456789*", `, `ENV{ID_WWN_WITH_EXTENSION}=="0x6001405123456789*", `, `ENV{ID_SERIAL}=="36001405123456789*", `,
		},
		"09-umbra-naa.6001405123456789abcdef0123456789.rules": {
			`ENV{.UMBRA_WWID}=="naa.6001405123456789abcdef0123456789|uuid.01405123-4567-889a-8bcd-ef0123456789|eui.abcdef01234567890014051234567896", ENV{UMBRA_ADMITTED}="1"`},
	} {
		text, err := os.ReadFile(filepath.Join(r.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s: no %s in\n%s", name, w, text)
			}
		}
		for line := range strings.Lines(string(text)) {
			if !rule.MatchString(strings.TrimSuffix(line, "\n")) {
				t.Errorf("%s: line %q", name, line)
			}
		}
	}
	for range 2 {
		if err := r.Dismiss(t.Context(), []lun.Info{naaLUN(t)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := files(t, r.Dir); n != 1 {
		t.Errorf("%d files, want the array's", n)
	}
	if reloads != 4 {
		t.Errorf("%d reloads, want one for each change: a disk that is let through no more is here", reloads)
	}
	for _, bad := range []Family{"", "600140", "6001405123456789abcdef0123456789", "6001405*", `6001405"`, "6001405ABC"} {
		if err := r.HideFamily(t.Context(), bad); !errors.Is(err, vss.E_INVALIDARG) {
			t.Errorf("family %q: %v", bad, err)
		}
	}
}

func TestHideMapped(t *testing.T) {
	reloads := 0
	r := Rules{Dir: filepath.Join(t.TempDir(), "rules.d"), Reload: func(context.Context) error { reloads++; return nil }}
	for range 2 {
		if err := r.HideMapped(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(r.Dir, mappedFile))
	if err != nil || !strings.Contains(string(text), `ATTR{dm/uuid}=="UMBRA-VOLUME-*", ENV{SYSTEMD_READY}="0"`) || reloads != 1 {
		t.Errorf("%d reloads, %v\n%s", reloads, err, text)
	}
	// What LVM is to see is kept from everybody else, and not from LVM's filter.
	for _, known := range []string{`ATTR{dm/uuid}=="UMBRA-GROUP-*", `, `ATTR{dm/uuid}=="LVM-Umbra1*", `} {
		_, after, ok := strings.Cut(string(text), known)
		after, _, _ = strings.Cut(after, "\n")
		if !ok || !strings.Contains(after, `ENV{DM_UDEV_DISABLE_DISK_RULES_FLAG}="1"`) || !strings.Contains(after, `ENV{UDISKS_IGNORE}="1"`) || strings.Contains(after, hiddenLinks) {
			t.Errorf("%s: %q", known, after)
		}
	}
	for line := range strings.Lines(string(text)) {
		if !rule.MatchString(strings.TrimSuffix(line, "\n")) {
			t.Errorf("line %q", line)
		}
	}
}

func files(t *testing.T, dir string) int {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(all, func(e os.DirEntry) bool { return e.Name() == multipathFile || e.Name() == nbdFile }))
}

func TestHideFails(t *testing.T) {
	r := Rules{Dir: t.TempDir(), Reload: func(context.Context) error { return errors.New("no") }}
	if err := r.Hide(t.Context(), []lun.Info{naaLUN(t), {Version: 1}}); !errors.Is(err, vss.E_INVALIDARG) {
		t.Errorf("nameless LUN: %v", err)
	}
	if n := files(t, r.Dir); n != 0 {
		t.Errorf("%d files although one LUN was bad", n)
	}
	if err := r.Hide(t.Context(), []lun.Info{naaLUN(t)}); err == nil {
		t.Error("a failed reload went unnoticed")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Rules{Dir: file}).Hide(t.Context(), []lun.Info{naaLUN(t)}); !errors.Is(err, vss.VSS_E_UNEXPECTED) {
		t.Errorf("folder that is a file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Hide(ctx, []lun.Info{naaLUN(t)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// rule is what every line of a rules file must look like, whoever made up the
// identifier. What udev puts in by itself ($…) is nowhere but where we say so.
var rule = regexp.MustCompile(`^(#.*|` + part + `(, ` + part + `|, SYMLINK\+="umbra/hidden/%k"|, ENV\{\.UMBRA_WWID\}="\$attr\{wwid\}"|, ENV\{ID_SERIAL\}="\$env\{\.UMBRA_WWID\}")*)$`)

const part = `[A-Z]+(\{[A-Za-z_/.]+\})?(==|!=|=)"[A-Za-z0-9._:?*|/-]*"`

func FuzzRules(f *testing.F) {
	f.Add("naa.6001405123456789abcdef0123456789")
	f.Add(`x", RUN+="/bin/sh -c id"`)
	f.Add("a\nRUN+=\"b\"")
	f.Add("*[a-z]|../../etc/passwd")
	f.Add("a|naa.*")
	f.Fuzz(func(t *testing.T, id string) {
		l := named(id)
		text, err := render(l)
		if err != nil {
			return
		}
		for line := range strings.Lines(text) {
			if !rule.MatchString(strings.TrimSuffix(line, "\n")) {
				t.Errorf("%q makes the line %q", id, line)
			}
		}
		name := fileName(l)
		if filepath.Base(name) != name || !strings.HasPrefix(name, "10-umbra-") || !strings.HasSuffix(name, ".rules") || len(name) > 200 {
			t.Errorf("%q makes the file name %q", id, name)
		}
	})
}

// TestReloadAgain: udev that hangs up once is asked again; one that always does,
// is told.
func TestReloadAgain(t *testing.T) {
	calls := 0
	hangsUp := func(times int) func() ([]byte, error) {
		calls = 0
		return func() ([]byte, error) {
			if calls++; calls <= times {
				return []byte("Broken pipe"), errors.New("exit status 1")
			}
			return nil, nil
		}
	}
	if err := reload(t.Context(), hangsUp(1)); err != nil || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
	var e *vss.Error
	if err := reload(t.Context(), hangsUp(100)); !errors.As(err, &e) || !strings.Contains(e.Reason, "Broken pipe") || calls != 3 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
