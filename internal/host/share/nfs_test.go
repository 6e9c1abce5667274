package share

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// TestExports with the real exportfs and a table of the test's own; the server
// in the kernel is not needed for it, and not told.
func TestExports(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := look("exportfs"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", "/var/lib/nfs", "tmpfs", 0, "size=64k,mode=755")
		}
		if err == nil {
			err = os.WriteFile("/var/lib/nfs/etab", nil, 0o600)
		}
		if err == nil {
			exports(t, dir)
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func exports(t *testing.T, dir string) {
	ctx, id, path := t.Context(), vss.NewID(), filepath.Join(dir, "docs")
	n := NFS{Clients: []string{"192.0.2.0/24", "2001:db8::/32", "@backup"}}
	is(t, "Free", n.Free(ctx, "docs", path), vss.S_OK)
	is(t, "a folder that is not there", n.Publish(ctx, "docs", path, id), vss.VSS_E_UNEXPECTED)
	if table(t) != "" {
		t.Errorf("a failure left\n%s", table(t))
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Error(err)
	}
	is(t, "another export", NFS{Clients: []string{"192.0.2.1"}}.Publish(ctx, "other", dir, id), vss.S_OK)
	is(t, "Publish", n.Publish(ctx, "docs", path, id), vss.S_OK)
	is(t, "Publish again", n.Publish(ctx, "docs", path, id), vss.S_OK)
	got := table(t)
	for _, client := range []string{"192.0.2.0/24", "2001:db8::/32", "@backup"} {
		line := ""
		for l := range strings.Lines(got) {
			if strings.HasPrefix(l, path+"\t"+client+"(") {
				line = l
			}
		}
		for _, o := range []string{"ro", "root_squash", "no_subtree_check", "mountpoint", "fsid=" + id.Bare()} {
			_, options, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), ")"), "(")
			if !slices.Contains(strings.Split(options, ","), o) {
				t.Errorf("%s: no %s in %q", client, o, line)
			}
		}
	}
	if all, err := n.List(ctx); err != nil || len(all) != 2 || !slices.Contains(all, Entry{"docs", path}) {
		t.Errorf("%v, %v", all, err)
	}
	// For whom it was exported is not asked of today's configuration.
	is(t, "Withdraw", NFS{}.Withdraw(ctx, "docs", path), vss.S_OK)
	is(t, "Withdraw again", n.Withdraw(ctx, "docs", path), vss.S_OK)
	if got := table(t); strings.Contains(got, path) || !strings.HasPrefix(got, dir+"\t192.0.2.1(") {
		t.Errorf("the table is\n%s", got)
	}
	is(t, "a client that nobody knows", NFS{Clients: []string{"nobody.invalid"}}.Publish(ctx, "docs", path, id), vss.VSS_E_UNEXPECTED)
	is(t, "no clients", NFS{}.Free(ctx, "docs", path), vss.VSS_E_NOT_SUPPORTED)
}

func table(t *testing.T) string {
	text, err := os.ReadFile("/var/lib/nfs/etab")
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(text))
}

func TestCheckClient(t *testing.T) {
	for _, ok := range []string{"*", "10.0.0.0/8", "2001:db8::/32", "@backup", "*.example.com", "hosta"} {
		is(t, ok, CheckClient(ok), vss.S_OK)
	}
	for _, bad := range []string{"", "-u", "a b", "h(rw)", "h,i", "#", "/etc"} {
		is(t, bad, CheckClient(bad), vss.E_INVALIDARG)
	}
}
