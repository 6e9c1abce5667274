package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/provider"
	"github.com/umbra-vss/umbra/provider/loopdisk"
	"github.com/umbra-vss/umbra/provider/providertest"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

// store makes a folder on a new XFS or btrfs.
func store(t *testing.T, fs string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a filesystem and makes loop devices")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512*mib); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"mkfs." + fs, "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The suite every provider passes.
func TestConformance(t *testing.T) {
	for _, fs := range []string{"xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			dir := store(t, fs)
			tag := vss.NewID().Bare()[:8]
			life := func(ctx context.Context) (provider.Hardware, error) {
				p := &reflink{dir: dir, host: "h", tag: tag}
				return p, p.OnLoad(ctx)
			}
			var disks []providertest.Disk
			if err := os.MkdirAll(filepath.Join(dir, "originals", "h"), 0o700); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				n := lun.NAA(vss.NewID())
				n[0] = 0x60
				file := filepath.Join(dir, "originals", "h", n.String())
				if err := os.WriteFile(file, make([]byte, 4*mib), 0o600); err != nil {
					t.Fatal(err)
				}
				disks = append(disks, providertest.Disk{Info: info(n), Size: 4 * mib})
				t.Cleanup(func() {
					if err := loopdisk.Detach(n); err != nil {
						t.Error(err)
					}
				})
			}
			p, err := life(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range disks {
				n, _ := d.Info.NAA()
				if disks[i].Device = device(t, n); disks[i].Device == "" {
					t.Fatal("an original has no device")
				}
			}
			attach := func(_ context.Context, l lun.Info) (providertest.Disk, error) {
				n, _ := l.NAA()
				dev := device(t, n)
				f, err := os.Open(dev)
				if err != nil {
					return providertest.Disk{}, err
				}
				defer f.Close()
				size, err := f.Seek(0, 2)
				return providertest.Disk{Info: info(n), Device: dev, Size: uint64(size)}, err
			}
			providertest.Test(t, providertest.Subject{Provider: p, LUNs: disks, Restart: life, Attach: attach, Scratch: true,
				Detach: func(_ context.Context, d providertest.Disk) error {
					n, _ := d.Info.NAA()
					return loopdisk.Detach(n)
				}})
			for _, left := range []string{"copies/*", "making/h/*"} {
				if found, _ := filepath.Glob(filepath.Join(dir, left)); len(found) > 0 {
					t.Errorf("the suite left %v", found)
				}
			}
		})
	}
}

// device is the loop device of a LUN.
func device(t *testing.T, n lun.NAA) string {
	t.Helper()
	all := loopdisk.Devices(n)
	if len(all) != 1 {
		t.Fatalf("%s has the devices %v", n, all)
	}
	return all[0]
}
