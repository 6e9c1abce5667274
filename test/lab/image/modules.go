package image

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// needs is a kernel's modules.dep: what each module needs, by file.
type needs map[string][]string

func readNeeds(name string) (needs, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := needs{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		file, rest, _ := strings.Cut(lines.Text(), ":")
		out[file] = strings.Fields(rest)
	}
	return out, lines.Err()
}

// file finds a module by its name, in which - and _ are one.
func (n needs) file(name string) (string, bool) {
	want := strings.ReplaceAll(name, "-", "_")
	for f := range n {
		if strings.ReplaceAll(strings.TrimSuffix(path.Base(f), ".ko"), "-", "_") == want {
			return f, true
		}
	}
	return "", false
}

// order lists files so that each comes after those that it needs. (modules.dep
// has all that a module needs, the innermost last.)
func (n needs) order(names []string) ([]string, error) {
	var out []string
	add := func(f string) {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	for _, name := range names {
		f, ok := n.file(name)
		if !ok {
			return nil, fmt.Errorf("the kernel has no module %s", name)
		}
		for _, dep := range slices.Backward(n[f]) {
			add(dep)
		}
		add(f)
	}
	return out, nil
}

func (b *base) kernelModules() error {
	version, err := kernelVersion(b.root)
	if err != nil {
		return err
	}
	dir := "usr/lib/modules/" + version
	all, err := readNeeds(inTree(b.root, dir+"/modules.dep"))
	if err != nil {
		return err
	}
	for _, f := range slices.Sorted(maps.Keys(all)) {
		if under(strings.TrimPrefix(f, "kernel/"), modules) {
			for _, p := range append([]string{f}, all[f]...) {
				if err := b.add(dir + "/" + p); err != nil {
					return err
				}
			}
		}
	}
	indices, err := filepath.Glob(inTree(b.root, dir+"/modules.*"))
	if err != nil {
		return err
	}
	for _, i := range indices {
		if err := b.add(dir + "/" + filepath.Base(i)); err != nil {
			return err
		}
	}
	for role, names := range loaded {
		list, err := all.order(names)
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, f := range list {
			fmt.Fprintf(&text, "/lib/modules/%s/%s\n", version, f)
		}
		if err := b.out.data("lab/modules."+role, 0o644, []byte(text.String())); err != nil {
			return err
		}
	}
	return nil
}

func kernelVersion(root string) (string, error) {
	found, _ := filepath.Glob(inTree(root, "usr/lib/modules/*/modules.dep"))
	if len(found) != 1 {
		return "", fmt.Errorf("%d kernels in %s, want one", len(found), root)
	}
	return filepath.Base(filepath.Dir(found[0])), nil
}
