package iscsi

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// tree is configfs, below the target module's folder. Paths are relative to it.
// It is an interface so that a test can be the kernel.
type tree interface {
	Mkdir(path string) error
	Rmdir(path string) error
	Write(path, value string) error
	Read(path string) (string, error)
	Link(to, path string) error // to is a path of the tree as well
	Unlink(path string) error
	List(path string) ([]string, error) // folders and links; none if there is no such folder
	Exists(path string) bool
}

// configfs is the real one.
type configfs string

func (c configfs) at(path string) string { return filepath.Join(string(c), path) }

func (c configfs) Mkdir(path string) error {
	// Once: configfs makes an object with each folder. A mode is not kept.
	err := os.Mkdir(c.at(path), 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (c configfs) Rmdir(path string) error {
	if err := syscall.Rmdir(c.at(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: c.at(path), Err: err}
	}
	return nil
}

func (c configfs) Write(path, value string) error {
	// No O_CREATE and no O_TRUNC: an attribute is there or the kernel has none.
	f, err := os.OpenFile(c.at(path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value) // in one write; the kernel acts on each
	return errors.Join(err, f.Close())
}

func (c configfs) Read(path string) (string, error) {
	b, err := os.ReadFile(c.at(path))
	return strings.TrimSpace(string(b)), err
}

func (c configfs) Link(to, path string) error {
	err := os.Symlink(c.at(to), c.at(path))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (c configfs) Unlink(path string) error {
	if err := syscall.Unlink(c.at(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "unlink", Path: c.at(path), Err: err}
	}
	return nil
}

func (c configfs) List(path string) ([]string, error) {
	entries, err := os.ReadDir(c.at(path))
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

func (c configfs) Exists(path string) bool {
	_, err := os.Lstat(c.at(path))
	return err == nil
}
