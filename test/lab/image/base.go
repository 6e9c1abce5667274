package image

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

func parent(p string) string       { return path.Dir(p) }
func readerOf(b []byte) io.Reader  { return bytes.NewReader(b) }
func isMissing(err error) bool     { return errors.Is(err, fs.ErrNotExist) }
func inTree(root, p string) string { return filepath.Join(root, filepath.FromSlash(p)) }
func under(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
}

// base puts Debian's files into an archive.
type base struct {
	root string // where they were unpacked
	out  *archive
	has  map[string]bool
}

func writeBase(w io.Writer, root, guest string) error {
	b := &base{root: root, out: newArchive(w), has: map[string]bool{}}
	for _, step := range []func() error{b.skeleton, b.programs, b.trees, b.units, b.kernelModules, b.applets, b.settings,
		func() error { return b.out.copy("init", guest) }, b.out.close} {
		if err := step(); err != nil {
			return fmt.Errorf("the machines' base: %w", err)
		}
	}
	return nil
}

func (b *base) skeleton() error {
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "root", "mnt", "etc/target", "lab", "var/lib", "var/log", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin"} {
		if err := b.out.dir(d); err != nil {
			return err
		}
	}
	for _, l := range [][2]string{{"bin", "usr/bin"}, {"sbin", "usr/sbin"}, {"lib", "usr/lib"}, {"lib64", "usr/lib64"}, {"var/run", "/run"}, {"var/lock", "/run/lock"}, {"usr/bin/sh", "dash"}, {"etc/mtab", "/proc/self/mounts"}} {
		if err := b.out.symlink(l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}

func (b *base) programs() error {
	for _, p := range programs {
		if err := b.add(p); err != nil && !isMissing(err) {
			return err
		} else if err != nil && !b.elsewhere(p) {
			return fmt.Errorf("the packages have no /%s", p)
		}
	}
	for _, l := range libraries {
		if err := b.library(l, nil); err != nil {
			return err
		}
	}
	return nil
}

// elsewhere reports whether a program is in the other of bin and sbin.
func (b *base) elsewhere(p string) bool {
	other := strings.Replace(p, "usr/sbin/", "usr/bin/", 1)
	if other == p {
		other = strings.Replace(p, "usr/bin/", "usr/sbin/", 1)
	}
	return b.add(other) == nil
}

func (b *base) trees() error {
	for _, t := range trees {
		err := filepath.WalkDir(inTree(b.root, t), func(full string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			p, err := filepath.Rel(b.root, full)
			if err != nil {
				return err
			}
			switch {
			case under(p, unneeded) && d.IsDir():
				return fs.SkipDir
			case under(p, unneeded):
				return nil
			case d.IsDir():
				return b.out.dir(p)
			case files[p] != "":
				return nil // the lab has its own
			}
			return b.add(p)
		})
		if err != nil && !isMissing(err) {
			return err
		}
	}
	return nil
}

// units are Debian's, with the links by which those wait for each other that are
// never disabled.
func (b *base) units() error {
	const dir = "usr/lib/systemd/system"
	for _, u := range units {
		if err := b.add(dir + "/" + u); err != nil {
			return err
		}
		links, err := filepath.Glob(inTree(b.root, dir+"/*.wants/"+u))
		if err != nil {
			return err
		}
		for _, l := range links {
			if err := b.out.symlink(path.Join(dir, filepath.Base(filepath.Dir(l)), u), "../"+u); err != nil {
				return err
			}
		}
	}
	for l, to := range enabled {
		if err := b.out.symlink(l, to); err != nil {
			return err
		}
	}
	return nil
}

// add puts in a file; what a link points to, what a program is linked to, and
// the folder's true name are seen to. Links to what is not there stay links.
func (b *base) add(p string) error {
	p = merged(path.Clean(p))
	if b.has[p] {
		return nil
	}
	full := inTree(b.root, p)
	st, err := os.Lstat(full)
	if err != nil {
		return err
	}
	b.has[p] = true
	switch {
	case st.Mode()&os.ModeSymlink != 0:
		to, err := os.Readlink(full)
		if err != nil {
			return err
		}
		if err := b.out.symlink(p, to); err != nil {
			return err
		}
		if path.IsAbs(to) {
			to = strings.TrimPrefix(to, "/")
		} else {
			to = path.Join(path.Dir(p), to)
		}
		if err := b.add(to); err != nil && !isMissing(err) {
			return err
		}
		return nil
	case st.IsDir():
		return b.out.dir(p)
	case !st.Mode().IsRegular():
		return nil
	}
	if err := b.out.copy(p, full); err != nil {
		return err
	}
	return b.linked(full)
}

// merged is a name below /usr for what a merged system has there.
func merged(p string) string {
	if first, _, _ := strings.Cut(p, "/"); first == "bin" || first == "sbin" || first == "lib" || first == "lib64" {
		return "usr/" + p
	}
	return p
}

// linked adds the libraries that a program or library names.
func (b *base) linked(full string) error {
	f, err := elf.Open(full)
	if err != nil {
		return nil // no program
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil // linked to nothing
	}
	runpath, _ := f.DynString(elf.DT_RUNPATH)
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		loader, err := io.ReadAll(p.Open())
		if err == nil {
			err = b.add(strings.Trim(string(loader), "/\x00"))
		}
		if err != nil {
			return fmt.Errorf("%s: its loader: %w", full, err)
		}
	}
	// What loads a library from a folder of its own has loaded its neighbours there.
	if own, err := filepath.Rel(b.root, filepath.Dir(full)); err == nil {
		runpath = append(runpath, own)
	}
	for _, n := range names {
		if err := b.library(n, runpath); err != nil {
			return fmt.Errorf("%s: %w", full, err)
		}
	}
	return nil
}

func (b *base) library(name string, also []string) error {
	for _, dir := range append([]string{"usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"}, also...) {
		err := b.add(path.Join(strings.TrimPrefix(dir, "/"), name))
		if err == nil || !isMissing(err) {
			return err
		}
	}
	return fmt.Errorf("the packages have no library %s", name)
}

// applets are busybox's for whatever there is no program of its own.
func (b *base) applets() error {
	list, err := exec.Command(inTree(b.root, "usr/bin/busybox"), "--list").Output()
	if err != nil {
		return fmt.Errorf("busybox --list: %w", err)
	}
	for _, a := range strings.Fields(string(list)) {
		if b.has["usr/bin/"+a] || b.has["usr/sbin/"+a] || a == "sh" || a == "ash" || a == "init" {
			continue
		}
		if err := b.out.symlink("usr/bin/"+a, "busybox"); err != nil {
			return err
		}
	}
	return nil
}

func (b *base) settings() error {
	for p, text := range files {
		if err := b.out.data(p, 0o644, []byte(text)); err != nil {
			return err
		}
	}
	for p, master := range map[string]string{"etc/passwd": "usr/share/base-passwd/passwd.master", "etc/group": "usr/share/base-passwd/group.master"} {
		if err := b.out.copy(p, inTree(b.root, master)); err != nil {
			return err
		}
	}
	return nil
}
