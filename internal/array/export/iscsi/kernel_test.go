package iscsi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/umbra-vss/umbra/internal/array/export/configfs"
)

// kernel is configfs as the kernel has it, in a folder: it makes the folders
// and files that come with an object, refuses what the kernel refuses, and
// writes down what it was told.
type kernel struct {
	configfs.FS
	t     *testing.T
	mu    sync.Mutex
	calls []string
	fail  string // a call that is refused
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "target/core"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &kernel{FS: configfs.FS(filepath.Join(root, "target")), t: t}
}

func (k *kernel) call(format string, args ...any) error {
	c := fmt.Sprintf(format, args...)
	if k.fail != "" && strings.HasPrefix(c, k.fail) {
		return fmt.Errorf("%s: %w", c, errors.New("refused by the test"))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, c)
	return nil
}

// did returns what was told since it was asked last.
func (k *kernel) did() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.calls
	k.calls = nil
	return c
}

func (k *kernel) put(file, value string) {
	k.t.Helper()
	p := k.At(file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(value), 0o644)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) Mkdir(p string) error {
	if k.Exists(p) {
		return nil
	}
	if err := k.call("mkdir %s", p); err != nil {
		return err
	}
	if err := k.FS.Mkdir(p); err != nil {
		return err
	}
	parts := strings.Split(p, "/")
	switch last := parts[len(parts)-1]; {
	case parts[0] == "core" && len(parts) == 3:
		for _, f := range []string{"control", "enable", "wwn/vpd_unit_serial", "wwn/vendor_id", "wwn/product_id", "wwn/revision", "attrib/emulate_tpu", "attrib/emulate_3pc"} {
			k.put(path.Join(p, f), "0")
		}
	case last == "tpgt_1":
		for _, d := range []string{"lun", "acls", "np"} {
			k.put(path.Join(p, d, ".keep"), "")
		}
		for f, v := range map[string]string{"enable": "0", "attrib/authentication": "0", "attrib/generate_node_acls": "0", "attrib/demo_mode_discovery": "1", "attrib/prod_mode_write_protect": "0"} {
			k.put(path.Join(p, f), v)
		}
	case len(parts) == 5 && parts[3] == "acls":
		for _, f := range []string{"userid", "password", "userid_mutual", "password_mutual"} {
			k.put(path.Join(p, "auth", f), "")
		}
		k.put(path.Join(p, "info"), "No active iSCSI Session for Initiator Endpoint: "+last+"\n")
	case len(parts) == 6 && parts[3] == "acls":
		k.put(path.Join(p, "statistics/.keep"), "")
		k.put(path.Join(p, "write_protect"), "1") // as prod_mode_write_protect says
	}
	return nil
}

func (k *kernel) Rmdir(p string) error {
	if !k.Exists(p) {
		return nil
	}
	if err := k.call("rmdir %s", p); err != nil {
		return err
	}
	// The folders that came with it go with it; what was made in it or leads to
	// it keeps it.
	made := map[string]bool{"core": true, "fileio_7480": true, "lun": true, "acls": true, "np": true}
	names, _ := k.List(p)
	for _, n := range names {
		fi, err := os.Lstat(k.At(path.Join(p, n)))
		if err == nil && fi.Mode()&fs.ModeSymlink != 0 || strings.HasPrefix(n, "lun_") || made[path.Base(p)] {
			return fmt.Errorf("rmdir %s: not empty: %s", p, n)
		}
		if made[n] {
			if inner, _ := k.List(path.Join(p, n)); len(inner) > 0 {
				return fmt.Errorf("rmdir %s: not empty: %s", p, inner)
			}
		}
	}
	var holders []string
	_ = filepath.WalkDir(string(k.FS), func(at string, d fs.DirEntry, err error) error {
		if to, rerr := os.Readlink(at); rerr == nil && to == k.At(p) {
			holders = append(holders, at)
		}
		return err
	})
	if len(holders) > 0 {
		return fmt.Errorf("rmdir %s: in use by %s", p, holders)
	}
	return os.RemoveAll(k.At(p))
}

func (k *kernel) Write(p, v string) error {
	if err := k.call("%s = %s", p, v); err != nil {
		return err
	}
	if path.Base(p) == "emulate_tpu" {
		if on, _ := k.Read(path.Join(path.Dir(path.Dir(p)), "enable")); on != "1" {
			k.t.Error("emulate_tpu before enable: some kernels die of it")
		}
	}
	if strings.HasPrefix(path.Base(p), "vpd_unit_serial") {
		if on, _ := k.Read(path.Join(path.Dir(path.Dir(p)), "enable")); on == "1" {
			return errors.New("the identity of an enabled backstore")
		}
	}
	if strings.HasSuffix(v, "\n") && strings.Contains(p, "/auth/") {
		k.t.Error("a newline becomes part of the secret")
	}
	return k.FS.Write(p, v)
}

func (k *kernel) Link(to, p string) error {
	if k.Exists(p) {
		return nil
	}
	if err := k.call("link %s -> %s", p, to); err != nil {
		return err
	}
	if !k.Exists(to) {
		return fmt.Errorf("link to %s, which is not there", to)
	}
	return k.FS.Link(to, p)
}

func (k *kernel) Unlink(p string) error {
	if err := k.call("unlink %s", p); err != nil {
		return err
	}
	return k.FS.Unlink(p)
}

// told fails unless exactly these calls were made, in this order.
func (k *kernel) told(want ...string) {
	k.t.Helper()
	got := k.did()
	if !slices.Equal(got, want) {
		k.t.Errorf("the kernel was told\n  %s\nnot\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
