package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Cache is where the packages are unpacked and the base is kept.
func Cache() (string, error) {
	if dir := os.Getenv("UMBRA_LAB_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "umbra-lab"), err
}

// ErrUnavailable is that the packages, or QEMU, cannot be had on this machine.
var ErrUnavailable = errors.New("what the lab's machines are made of cannot be had here")

// Image is what machines boot from, and on.
type Image struct {
	Kernel, Initrd string
	QEMU           []string // the command, before its own arguments
	Env            []string // what it wants in its environment
}

// Make makes the image with a program of ours, into a folder. source is the
// root of this repository.
func Make(ctx context.Context, source, umbra, into string) (Image, error) {
	cache, err := Cache()
	if err != nil {
		return Image{}, err
	}
	deps := exec.CommandContext(ctx, filepath.Join(source, "build/lab-deps.sh"), cache)
	var said bytes.Buffer
	deps.Stdout, deps.Stderr = &said, &said
	if err := deps.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 {
			return Image{}, fmt.Errorf("%w: %s", ErrUnavailable, bytes.TrimSpace(said.Bytes()))
		}
		return Image{}, fmt.Errorf("lab-deps.sh: %w\n%s", err, said.Bytes())
	}
	root := filepath.Join(cache, "root")
	kernel, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernel) != 1 {
		return Image{}, fmt.Errorf("%d kernels in %s/boot, want one (%w)", len(kernel), root, err)
	}
	guest := filepath.Join(into, "guest")
	if err := build(ctx, source, guest); err != nil {
		return Image{}, err
	}
	common, err := baseOf(cache, root, guest)
	if err != nil {
		return Image{}, err
	}
	img := Image{Kernel: kernel[0], Initrd: filepath.Join(into, "initrd")}
	img.qemu(filepath.Join(cache, "qemu"))
	return img, join(img.Initrd, common, umbra)
}

// qemu finds the emulator: the installed one, else the unpacked one, which is
// run by its own loader and told where its parts are.
func (img *Image) qemu(root string) {
	const name = "qemu-system-x86_64"
	if p, err := exec.LookPath(name); err == nil {
		img.QEMU = []string{p}
		return
	}
	libs := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	img.QEMU = []string{filepath.Join(root, "lib64/ld-linux-x86-64.so.2"), "--library-path", libs + ":" + filepath.Join(libs, "pulseaudio"),
		filepath.Join(root, "usr/bin", name), "-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios")}
	img.Env = []string{"QEMU_MODULE_DIR=" + filepath.Join(libs, "qemu")}
}

// build makes the guests' first process.
func build(ctx context.Context, source, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./test/lab/guest")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./test/lab/guest: %w\n%s", err, said)
	}
	return nil
}

// baseOf is the base's file, made anew if what it is made of has changed.
func baseOf(cache, root, guest string) (string, error) {
	sum, err := digest(cache, guest)
	if err != nil {
		return "", err
	}
	name := filepath.Join(cache, "base.cpio-"+sum)
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	old, _ := filepath.Glob(filepath.Join(cache, "base.cpio-*"))
	f, err := os.CreateTemp(cache, "making-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	err = errors.Join(writeBase(f, root, guest), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return "", err
	}
	for _, o := range old {
		os.Remove(o)
	}
	return name, nil
}

// layout is raised when the code that writes the base changes what it writes.
const layout = 4

func digest(cache, guest string) (string, error) {
	h := sha256.New()
	for _, name := range []string{filepath.Join(cache, "root.kind"), guest} {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	lists, err := json.Marshal([]any{layout, programs, trees, unneeded, libraries, modules, loaded, files, units, enabled})
	if err != nil {
		return "", err
	}
	h.Write(lists)
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// join writes the base and an archive with umbra behind it.
func join(out, common, umbra string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := os.Open(common)
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := io.Copy(f, b); err != nil {
		return err
	}
	a := newArchive(f)
	if umbra != "" {
		if err := a.copy("usr/local/bin/umbra", umbra); err != nil {
			return err
		}
	}
	if err := a.close(); err != nil {
		return err
	}
	return f.Close()
}
