package image

import (
	"bytes"
	"fmt"
	"path/filepath"
)

// Pack is an archive (cpio) of programs that were brought and are in no machine,
// with the libraries they are linked to: for the one scenario that wants them.
// All machines would boot later for it.
func Pack(programs ...string) ([]byte, error) {
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	b := &base{root: filepath.Join(cache, "root"), out: newArchive(&out), has: map[string]bool{}}
	for _, p := range programs {
		if err := b.add(p); err != nil {
			return nil, fmt.Errorf("the packages' /%s: %w", p, err)
		}
	}
	if err := b.out.close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
