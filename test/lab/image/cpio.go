package image

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// archive writes the kernel's own format, newc. Everything belongs to root.
type archive struct {
	w     *bufio.Writer
	n     int64
	inode int
	dirs  map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{".": true, "": true}}
}

// Types of files, as stat has them.
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

// dir adds a folder and those above it, once.
func (a *archive) dir(path string) error {
	if a.dirs[path] {
		return nil
	}
	if err := a.dir(parent(path)); err != nil {
		return err
	}
	a.dirs[path] = true
	return a.entry(path, typeDir|0o755, 0, nil)
}

func (a *archive) data(path string, mode os.FileMode, content []byte) error {
	return a.entry(path, typeFile|uint32(mode.Perm()), int64(len(content)), readerOf(content))
}

func (a *archive) symlink(path, target string) error {
	return a.entry(path, typeLink|0o777, int64(len(target)), readerOf([]byte(target)))
}

// copy adds a file of this machine's.
func (a *archive) copy(path, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return a.entry(path, typeFile|uint32(st.Mode().Perm())|0o400, st.Size(), f)
}

func (a *archive) entry(path string, mode uint32, size int64, content io.Reader) error {
	if mode&0o170000 != typeDir {
		if err := a.dir(parent(path)); err != nil {
			return err
		}
	}
	a.inode++
	// magic, inode, mode, uid, gid, links, mtime, size, device, rdevice, length of the name, checksum
	n, err := fmt.Fprintf(a.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(path)+1, 0, path)
	if err != nil {
		return err
	}
	a.n += int64(n)
	if err := a.pad(); err != nil || content == nil {
		return err
	}
	copied, err := io.Copy(a.w, content)
	if err != nil {
		return err
	}
	if copied != size {
		return fmt.Errorf("%s changed while it was read", path)
	}
	a.n += copied
	return a.pad()
}

func (a *archive) pad() error {
	for ; a.n%4 != 0; a.n++ {
		if err := a.w.WriteByte(0); err != nil {
			return err
		}
	}
	return nil
}

// close ends the archive, on a boundary where another may begin.
func (a *archive) close() error {
	if err := a.entry("TRAILER!!!", 0, 0, nil); err != nil {
		return err
	}
	for ; a.n%512 != 0; a.n++ {
		if err := a.w.WriteByte(0); err != nil {
			return err
		}
	}
	return a.w.Flush()
}
