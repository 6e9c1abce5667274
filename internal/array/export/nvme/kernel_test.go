package nvme

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/export/configfs"
	"github.com/umbra-vss/umbra/lun"
)

// kernel is nvmet's configfs, in a folder, and the devices beneath: it makes
// the folders and files that come with an object, refuses what the kernel
// refuses, and writes down what it was told.
type kernel struct {
	configfs.FS
	t     *testing.T
	chap  bool // CONFIG_NVME_TARGET_AUTH
	calls []string
	fail  string // a call that is refused
	made  map[lun.NAA]string
	live  bool // somebody is connected
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"hosts", "subsystems", "ports"} {
		if err := os.MkdirAll(filepath.Join(root, "nvmet", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &kernel{FS: configfs.FS(filepath.Join(root, "nvmet")), t: t, made: map[lun.NAA]string{}}
}

func (k *kernel) call(format string, args ...any) error {
	c := fmt.Sprintf(format, args...)
	if k.fail != "" && strings.HasPrefix(c, k.fail) {
		return fmt.Errorf("%s: %w", c, errors.New("refused by the test"))
	}
	k.calls = append(k.calls, c)
	return nil
}

// did returns what was told since it was asked last.
func (k *kernel) did() []string {
	c := k.calls
	k.calls = nil
	return c
}

// told fails unless exactly these calls were made, in this order.
func (k *kernel) told(want ...string) {
	k.t.Helper()
	if got := k.did(); !slices.Equal(got, want) {
		k.t.Errorf("the kernel was told\n  %s\nnot\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (k *kernel) put(file, value string) {
	k.t.Helper()
	p := k.At(file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(value), 0o644)); err != nil {
		k.t.Fatal(err)
	}
}

// comesWith are the files and folders that the kernel makes with an object.
func (k *kernel) comesWith(p string) map[string]string {
	parts := strings.Split(p, "/")
	switch {
	case parts[0] == "hosts" && k.chap:
		return map[string]string{"dhchap_key": "", "dhchap_ctrl_key": "", "dhchap_hash": "hmac(sha256)"}
	case parts[0] == "subsystems" && len(parts) == 2:
		return map[string]string{"attr_allow_any_host": "0", "attr_model": "Linux", "attr_serial": "f8b172c801da6d8a5801", "allowed_hosts/.keep": "", "namespaces/.keep": ""}
	case parts[0] == "subsystems" && len(parts) == 4:
		return map[string]string{"device_path": "(null)", "device_nguid": "00000000-0000-0000-0000-000000000000", "device_uuid": "54c8ea15-70d3-492b-b296-a81ce386b64e", "enable": "0"}
	case parts[0] == "ports" && len(parts) == 2:
		return map[string]string{"addr_trtype": "", "addr_adrfam": "", "addr_traddr": "", "addr_trsvcid": "", "subsystems/.keep": ""}
	}
	return nil
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
	for f, v := range k.comesWith(p) {
		k.put(path.Join(p, f), v)
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
	for _, inner := range []string{"allowed_hosts", "namespaces", "subsystems"} {
		if left, _ := k.List(path.Join(p, inner)); len(left) > 0 {
			return fmt.Errorf("rmdir %s: not empty: %s", p, left)
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
	switch dir, file := path.Split(p); {
	case strings.HasPrefix(file, "device_"):
		if on, _ := k.Read(dir + "enable"); on == "1" {
			return errors.New("the identity of an enabled namespace")
		}
	case file == "enable" && v == "1":
		if dev, _ := k.Read(dir + "device_path"); !strings.HasPrefix(dev, "/dev/") {
			k.t.Errorf("%s is exported as it is", dev)
		}
	case file == "attr_model" || file == "attr_serial":
		for _, port := range []string{"7480", "7481"} {
			if k.Exists(path.Join("ports", port, "subsystems", path.Base(dir))) {
				return errors.New("hosts have seen it")
			}
		}
	case strings.HasPrefix(file, "addr_"):
		if linked, _ := k.List(dir + "subsystems"); len(linked) > 0 {
			return errors.New("the port is enabled")
		}
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

// The devices beneath.

func (k *kernel) Hide(prefix string) error { return k.call("hide %s", prefix) }

func deviceOf(l export.LUN, readOnly bool) string {
	return fmt.Sprintf("/dev/%s%s-%v", l.NAA, l.File, readOnly)
}

func (k *kernel) Make(l export.LUN, readOnly bool) (string, error) {
	d := deviceOf(l, readOnly)
	if k.made[l.NAA] == d {
		return d, nil
	}
	if err := k.call("make %s", d); err != nil {
		return "", err
	}
	k.made[l.NAA] = d
	return d, nil
}

func (k *kernel) Is(device string, l export.LUN, readOnly bool) bool {
	return device == deviceOf(l, readOnly) && k.made[l.NAA] == device
}

func (k *kernel) Drop(n lun.NAA) error {
	d, ok := k.made[n]
	if !ok {
		return nil
	}
	_ = filepath.WalkDir(k.At("subsystems"), func(at string, _ fs.DirEntry, err error) error {
		if dev, rerr := os.ReadFile(at); rerr == nil && string(dev) == d {
			k.t.Errorf("%s is dropped under %s", d, at)
		}
		return err
	})
	if err := k.call("drop %s", n); err != nil {
		return err
	}
	delete(k.made, n)
	return nil
}

func (k *kernel) All() ([]lun.NAA, error) {
	var out []lun.NAA
	for n := range k.made {
		out = append(out, n)
	}
	return out, nil
}
