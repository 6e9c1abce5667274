package iscsi

import (
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// hba is where backstores are. The number is unlike those that other tools
// count from zero.
const hba = "core/fileio_7480"

func backstore(n lun.NAA) string { return path.Join(hba, n.String()) }

// serial is what page 0x80 says, and from which the kernel makes the NAA name
// of page 0x83: it puts its own company identifier before these digits, which
// is the one that Umbra's arrays use.
func serial(n lun.NAA) string { return hex.EncodeToString(n[:])[len(identity.OUI):] }

// addBackstore opens the LUN's file in the kernel, unless it is open.
func (t *Target) addBackstore(l export.LUN) (err error) {
	dir := backstore(l.NAA)
	if on, rerr := t.fs.Read(path.Join(dir, "enable")); rerr == nil && on == "1" {
		return nil
	}
	// The kernel reads options up to the next comma, into a buffer of 256.
	if strings.ContainsAny(l.File, ",\n") || len(l.File) > 255 {
		return t.failed("export LUN", l.NAA.String(), "the kernel's target takes no path with a comma, or longer than 255 characters: "+l.File, nil)
	}
	if err := t.fs.Mkdir(hba); err != nil {
		return t.failed("export LUN", l.NAA.String(), "the kernel makes no file backstores", err)
	}
	if err := t.fs.Mkdir(dir); err != nil {
		return t.failed("export LUN", l.NAA.String(), "its backstore cannot be made", err)
	}
	defer func() {
		if err != nil {
			_ = t.fs.Rmdir(dir)
		}
	}()
	for _, w := range []struct{ file, value string }{
		// Without fd_buffered_io: a write is on the array's disk when it is
		// acknowledged. A cache that is lost when the array's machine goes down
		// would be lost to hosts that stay up and never write it again.
		{"control", fmt.Sprintf("fd_dev_name=%s,fd_dev_size=%d", l.File, l.Size)},
		{"wwn/vpd_unit_serial", serial(l.NAA)},
		{"wwn/vendor_id", identity.Vendor},
		{"wwn/product_id", identity.Product},
		{"wwn/revision", identity.Revision},
		{"enable", "1"},
		// Freed blocks are given back to the store.
		{"attrib/emulate_tpu", "1"},
		// EXTENDED COPY names LUNs by identifier, not by mapping.
		{"attrib/emulate_3pc", "0"},
	} {
		if err := t.fs.Write(path.Join(dir, w.file), w.value); err != nil {
			return t.failed("export LUN", l.NAA.String(), "the kernel's target does not take its "+w.file, err)
		}
	}
	return nil
}

func (t *Target) dropBackstore(n lun.NAA) error {
	if err := t.fs.Rmdir(backstore(n)); err != nil {
		return t.failed("end export", n.String(), "the kernel's target does not let go of it", err)
	}
	return nil
}

// exported are the backstores of the array's LUNs.
func (t *Target) backstores() ([]lun.NAA, error) {
	names, err := t.fs.List(hba)
	if err != nil {
		return nil, t.failed("look at exports", hba, "they cannot be listed", err)
	}
	var out []lun.NAA
	for _, name := range names {
		if n, err := lun.ParseNAA(name); err == nil && n.String() == name && t.owns(n) {
			out = append(out, n)
		}
	}
	return out, nil
}

func (t *Target) failed(op, object, reason string, err error) error {
	return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: object, Reason: reason,
		Remedy: "Look at the kernel log of the array's machine, and whether another tool (targetcli) changes the array's target", Err: err}
}
