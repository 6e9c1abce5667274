package share

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// exportsDir is read together with /etc/exports; names that begin with a dot are
// not.
const exportsDir = "/etc/exports.d"

// keptHead is how a file of ours begins. Only such files are removed.
const keptHead = "# Written by umbra for a share of a shadow copy; umbra unexpose removes it.\n"

func (n NFS) file(name string) string { return filepath.Join(exportsDir, "umbra-"+name+".exports") }

// writing is where it is written before it has its name.
func (n NFS) writing(name string) string { return filepath.Join(exportsDir, ".umbra-"+name) }

// keep writes a share's file, at once or not at all: exportfs may read it at any
// time.
func (n NFS) keep(name, path, options string) error {
	text := keptHead + quoted(path)
	for _, c := range n.Clients {
		text += " " + c + "(" + options + ")"
	}
	err := os.MkdirAll(exportsDir, 0o755)
	if err == nil {
		err = writeFile(n.writing(name), text+"\n")
	}
	if err == nil {
		err = os.Rename(n.writing(name), n.file(name))
	}
	if err != nil {
		return fmt.Errorf("without its file the export would be forgotten by exportfs -r: %w", err)
	}
	return nil
}

func writeFile(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// forget removes a share's file, and no other's.
func (n NFS) forget(name, path string) error {
	_ = os.Remove(n.writing(name)) // a crash may have left it; it does nothing
	at, err := keptPath(n.file(name))
	if err == nil && at == path {
		err = os.Remove(n.file(name))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return refused("the NFS server's folder", name, "Remove "+n.file(name)+" and run exportfs -r", err)
	}
	return nil
}

// freeFile refuses a name whose file is another's.
func (n NFS) freeFile(name, path string) error {
	switch at, err := keptPath(n.file(name)); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return refused("the NFS server's folder", name, "See "+n.file(name), err)
	case at != path:
		return taken(name, n.file(name))
	}
	return nil
}

// kept lists the shares that have a file.
func (n NFS) kept() (all []Entry, err error) {
	files, err := os.ReadDir(exportsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, refused("the NFS server", exportsDir, "See what is wrong with the folder", err)
	}
	for _, f := range files {
		full := filepath.Join(exportsDir, f.Name())
		name, ours := strings.CutPrefix(f.Name(), "umbra-")
		name, exports := strings.CutSuffix(name, ".exports")
		if !ours || !exports {
			continue
		}
		if path, err := keptPath(full); err == nil && path != "" {
			all = append(all, Entry{Name: name, Path: path})
		}
	}
	return all, nil
}

// keptPath is what a file of ours exports, "" if it is somebody else's.
func keptPath(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	line, ours := strings.CutPrefix(string(text), keptHead)
	if !ours {
		return "", nil
	}
	word, _, _ := strings.Cut(line, "\" ")
	return unquoted(word), nil
}

// quoted is a path as exports(5) has it: in quotes, with what would end them,
// or the line, as an octal number.
func quoted(path string) string {
	var out strings.Builder
	for _, b := range []byte(path) {
		if b < ' ' || b == '"' || b == '\\' {
			fmt.Fprintf(&out, `\%03o`, b)
		} else {
			out.WriteByte(b)
		}
	}
	return `"` + out.String() + `"`
}

func unquoted(word string) string {
	var out strings.Builder
	for word = strings.Trim(word, `"`); word != ""; {
		if word[0] == '\\' && len(word) >= 4 {
			if b, err := strconv.ParseUint(word[1:4], 8, 8); err == nil {
				out.WriteByte(byte(b))
				word = word[4:]
				continue
			}
		}
		out.WriteByte(word[0])
		word = word[1:]
	}
	return out.String()
}
