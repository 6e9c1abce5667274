// Package configfs is how the kernel's targets are driven: folders that are
// objects, links between them, and small files that are attributes. Each write
// is an order, given once and in full.
package configfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Root is where configfs is mounted.
const Root = "/sys/kernel/config"

// Tree is configfs, below a target's folder. Paths are relative to it. It is an
// interface so that a test can be the kernel.
type Tree interface {
	Mkdir(path string) error
	Rmdir(path string) error
	Write(path, value string) error
	Read(path string) (string, error)
	Link(to, path string) error // to is a path of the tree as well
	Unlink(path string) error
	List(path string) ([]string, error) // folders and links; none if there is no such folder
	Exists(path string) bool
}

// FS is the real one, by its folder.
type FS string

// At is the path of an object for others than this package.
func (c FS) At(path string) string { return filepath.Join(string(c), path) }

// Mkdir makes an object; one that is there stays.
func (c FS) Mkdir(path string) error {
	// Once: configfs makes an object with each folder. A mode is not kept.
	err := os.Mkdir(c.At(path), 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Rmdir ends an object; one that is gone is no error.
func (c FS) Rmdir(path string) error {
	if err := syscall.Rmdir(c.At(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: c.At(path), Err: err}
	}
	return nil
}

// Write gives an attribute a value.
func (c FS) Write(path, value string) error {
	// No O_CREATE and no O_TRUNC: an attribute is there or the kernel has none.
	f, err := os.OpenFile(c.At(path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value) // in one write; the kernel acts on each
	return errors.Join(err, f.Close())
}

// Read returns an attribute, without blanks around it.
func (c FS) Read(path string) (string, error) {
	b, err := os.ReadFile(c.At(path))
	return strings.TrimSpace(string(b)), err
}

// Link makes a link to an object; one that is there stays.
func (c FS) Link(to, path string) error {
	err := os.Symlink(c.At(to), c.At(path))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Unlink removes a link; one that is gone is no error.
func (c FS) Unlink(path string) error {
	if err := syscall.Unlink(c.At(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "unlink", Path: c.At(path), Err: err}
	}
	return nil
}

// List names the folders and links in a folder.
func (c FS) List(path string) ([]string, error) {
	entries, err := os.ReadDir(c.At(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() || e.Type()&fs.ModeSymlink != 0 {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// Exists reports whether there is something.
func (c FS) Exists(path string) bool {
	_, err := os.Lstat(c.At(path))
	return err == nil
}
