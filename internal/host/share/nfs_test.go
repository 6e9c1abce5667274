package share

import (
	"errors"
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
			err = privateEtc(dir)
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

// privateEtc is /etc with no exports but the test's own.
func privateEtc(dir string) error {
	copied := filepath.Join(dir, "etc")
	if err := os.Mkdir(copied, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"hosts", "nsswitch.conf", "passwd", "group", "protocols", "services", "netconfig", "ld.so.cache"} {
		text, err := os.ReadFile("/etc/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(copied, name), text, 0o644)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(copied, "exports"), nil, 0o600); err != nil {
		return err
	}
	return unix.Mount(copied, "/etc", "", unix.MS_BIND, "")
}

func exports(t *testing.T, dir string) {
	ctx, id, path := t.Context(), vss.NewID(), filepath.Join(dir, "docs")
	n := NFS{Clients: []string{"192.0.2.0/24", "2001:db8::/32", "@backup"}}
	is(t, "Free", n.Free(ctx, "docs", path), vss.S_OK)
	is(t, "a folder that is not there", n.Publish(ctx, "docs", path, id), vss.VSS_E_UNEXPECTED)
	if left := files(t); table(t) != "" || left != "" {
		t.Errorf("a failure left\n%s\n%s", table(t), left)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Error(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Error(err)
	}
	is(t, "another export", NFS{Clients: []string{"192.0.2.1"}}.Publish(ctx, "other", other, vss.NewID()), vss.S_OK)
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
	// What makes the table anew knows the export, options and all.
	n.again(t)
	if again := table(t); !slices.Equal(sorted(again), sorted(got)) {
		t.Errorf("after exportfs -r the table is\n%s\nand was\n%s", again, got)
	}
	// Another share's folder is not there yet.
	if err := os.WriteFile(n.file("later"), []byte(keptHead+quoted(dir+"/later")+" *(ro)\n"), 0o600); err != nil {
		t.Error(err)
	}
	is(t, "Publish beside what is not there", n.Publish(ctx, "docs", path, id), vss.S_OK)
	is(t, "Withdraw what is not there", n.Withdraw(ctx, "later", dir+"/later"), vss.S_OK)
	// A file of somebody else's is not taken, and not removed.
	theirs := n.file("theirs")
	if err := os.WriteFile(theirs, []byte("/srv *(ro)\n"), 0o600); err != nil {
		t.Error(err)
	}
	is(t, "a file of somebody else's", n.Free(ctx, "theirs", path), vss.VSS_E_OBJECT_ALREADY_EXISTS)
	is(t, "a file of somebody else's", n.Publish(ctx, "theirs", path, id), vss.VSS_E_OBJECT_ALREADY_EXISTS)
	is(t, "a file of somebody else's", n.Withdraw(ctx, "theirs", path), vss.S_OK)
	is(t, "a file of another daemon's", n.Free(ctx, "docs", dir+"/elsewhere"), vss.VSS_E_OBJECT_ALREADY_EXISTS)
	is(t, "a file of another daemon's", n.Withdraw(ctx, "docs", dir+"/elsewhere"), vss.S_OK)
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
	if err := os.Remove(theirs); err != nil {
		t.Error(err)
	}
	// The daemon dies while it writes, or before it asks exportfs; the table is
	// emptied. All that is known then is the file.
	if err := os.WriteFile(n.writing("docs"), []byte("half"), 0o600); err != nil {
		t.Error(err)
	}
	if _, err := n.exportfs(ctx, "-ua"); err != nil {
		t.Error(err)
	}
	if all, err := n.List(ctx); err != nil || !slices.Equal(all, []Entry{{"docs", path}, {"other", other}}) {
		t.Errorf("%v, %v", all, err)
	}
	is(t, "Publish again", n.Publish(ctx, "docs", path, id), vss.S_OK)
	// For whom it was exported is not asked of today's configuration.
	is(t, "Withdraw", NFS{}.Withdraw(ctx, "docs", path), vss.S_OK)
	is(t, "Withdraw again", n.Withdraw(ctx, "docs", path), vss.S_OK)
	n.again(t)
	if got := table(t); strings.Contains(got, path) || !strings.HasPrefix(got, other+"\t192.0.2.1(") {
		t.Errorf("the table is\n%s", got)
	}
	if got := files(t); got != "umbra-other.exports" {
		t.Errorf("left: %s", got)
	}
	is(t, "a client that nobody knows", NFS{Clients: []string{"nobody.invalid"}}.Publish(ctx, "docs", path, id), vss.VSS_E_UNEXPECTED)
	is(t, "no clients", NFS{}.Free(ctx, "docs", path), vss.VSS_E_NOT_SUPPORTED)

	// Nobody is left who may mount it: it must not be for everybody then.
	is(t, "Publish", n.Publish(ctx, "docs", path, id), vss.S_OK)
	is(t, "no clients any more", NFS{}.Publish(ctx, "docs", path, id), vss.VSS_E_NOT_SUPPORTED)
	if got := table(t) + files(t); strings.Contains(got, "docs") {
		t.Errorf("left: %s", got)
	}

	odd := filepath.Join(dir, "a b#c", "odd")
	if err := os.MkdirAll(odd, 0o755); err != nil {
		t.Error(err)
	}
	is(t, "an odd path", n.Publish(ctx, "odd", odd, id), vss.S_OK)
	n.again(t)
	if all, err := n.kept(); err != nil || !slices.Contains(all, Entry{"odd", odd}) {
		t.Errorf("%q, %v", all, err)
	}
	if got := table(t); strings.Count(got, "fsid="+id.Bare()) != 3 {
		t.Errorf("the table is\n%s", got)
	}
}

// again makes the table anew.
func (n NFS) again(t *testing.T) {
	t.Helper()
	if _, err := n.exportfs(t.Context(), "-r"); err != nil {
		t.Error(err)
	}
}

func sorted(text string) []string { return slices.Sorted(strings.Lines(text + "\n")) }

// files is what is in the folder of exports.
func files(t *testing.T) string {
	all, err := os.ReadDir(exportsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
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

func TestQuoted(t *testing.T) {
	for path, want := range map[string]string{"/run/umbra/shares/db": `"/run/umbra/shares/db"`, "/a b\t\"c\"\\d\n#": `"/a b\011\042c\042\134d\012#"`} {
		if got := quoted(path); got != want || unquoted(got) != path {
			t.Errorf("%q: %s, and back %q", path, got, unquoted(got))
		}
	}
}
