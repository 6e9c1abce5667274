package site

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// NewLUN makes a LUN on the array, unmasks it to the host and attaches it
// there; it returns the identifier and the device.
func (h *Host) NewLUN(ctx context.Context, name, size string) (naa, device string, err error) {
	out, err := h.site.Array(ctx, "lun", "create", name, "--size", size)
	if err != nil {
		return "", "", err
	}
	naa = strings.TrimSpace(out)
	if _, err := h.site.Array(ctx, "unmask", naa, h.Name); err != nil {
		return "", "", err
	}
	if out, err = h.Umbra(ctx, "rescan", naa, "--output", "json"); err != nil {
		return "", "", err
	}
	var luns []struct {
		Device string `json:"device"`
	}
	if err := json.Unmarshal([]byte(out), &luns); err != nil {
		return "", "", err
	}
	if len(luns) != 1 || luns[0].Device == "" {
		return "", "", fmt.Errorf("rescan of %s: %s", naa, out)
	}
	return naa, luns[0].Device, nil
}

// Format makes a filesystem (ext4, xfs, btrfs) on a device and mounts it on
// the host; it returns the mount point.
func (h *Host) Format(ctx context.Context, device, name, fs string) (string, error) {
	mkfs, err := mkfsOf(fs)
	if err != nil {
		return "", err
	}
	if _, err := h.Run(ctx, mkfs[0], append(mkfs[1:], device)...); err != nil {
		return "", err
	}
	mount := filepath.Join(h.dir, "srv", name)
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return "", err
	}
	_, err = h.Run(ctx, "mount", "-t", fs, device, mount)
	return mount, err
}

// mkfsOf is the command that makes a filesystem.
func mkfsOf(fs string) ([]string, error) {
	mkfs := map[string][]string{"ext4": {"mkfs.ext4", "-q", "-F"}, "xfs": {"mkfs.xfs", "-q", "-f"}, "btrfs": {"mkfs.btrfs", "-q", "-f"}}[fs]
	if mkfs == nil {
		return nil, fmt.Errorf("no way to make %s", fs)
	}
	return mkfs, nil
}

// LUNFile is the file behind a LUN, openable from here.
func (s *Site) LUNFile(naa string) string {
	return s.ArrayPath(filepath.Join(s.ArrayDir(), "store", "luns", naa))
}
