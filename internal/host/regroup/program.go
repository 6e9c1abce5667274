package regroup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

const showOp, endOp = "show volume group", "end volume group"

// program finds LVM's program, which all of its commands are.
func program() (string, error) {
	for _, p := range []string{"lvm", "/usr/sbin/lvm", "/sbin/lvm"} {
		if path, err := exec.LookPath(p); err == nil {
			return path, nil
		}
	}
	return "", &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: showOp, Object: "lvm", Reason: "LVM is not installed on this machine",
		Remedy: "Install it (package lvm2), or read the copy through its device object, which needs no LVM"}
}

// answerTime bounds an LVM command, which looks at every disk: one may hang, and
// others wait for us meanwhile.
const answerTime = 60 * time.Second

// run runs an LVM command.
func run(ctx context.Context, args ...string) (stdout []byte, said string, err error) {
	lvm, err := program()
	if err != nil {
		return nil, "", err
	}
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	// Who asked may go away; LVM is not stopped between two devices for that.
	out, errs, err := underway.Run(context.WithoutCancel(ctx), answerTime, func(cmd *exec.Cmd) {
		// Descriptors of ours are closed on exec, and LVM need not say what it finds.
		cmd.Env = append(os.Environ(), "LVM_SUPPRESS_FD_WARNINGS=1", "LC_ALL=C")
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends at a good place
	}, lvm, args...)
	said = strings.Join(strings.Fields(errs), " ")
	if errors.As(err, new(underway.Late)) {
		said = strings.TrimSpace(fmt.Sprintf("no answer within %s; a disk may hang. %s", answerTime, said))
	}
	return []byte(out), said, err
}

// groups are the volume groups that LVM sees, names by UUIDs.
func groups(ctx context.Context) (map[string]string, error) {
	out, said, err := run(ctx, "vgs", "--reportformat", "json", "-o", "vg_name,vg_uuid")
	if errors.Is(err, vss.VSS_E_NOT_SUPPORTED) {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	// LVM ends with an error where one of the groups has a trouble, and lists all.
	all, perr := parseGroups(out)
	if perr != nil {
		return nil, &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: showOp, Object: "vgs", Reason: "LVM does not say which volume groups there are: " + said,
			Remedy: "Run vgs and mend what it says", Err: errors.Join(err, perr)}
	}
	return all, nil
}

func parseGroups(out []byte) (map[string]string, error) {
	var r struct {
		Report []struct {
			VG []struct {
				Name string `json:"vg_name"`
				UUID string `json:"vg_uuid"`
			} `json:"vg"`
		} `json:"report"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, err
	}
	if len(r.Report) == 0 {
		return nil, errors.New("no report")
	}
	all := map[string]string{}
	for _, x := range r.Report {
		for _, g := range x.VG {
			all[g.UUID] = g.Name
		}
	}
	return all, nil
}

// devicesFile reports whether LVM looks only at devices that are listed in a file.
func (s Shower) devicesFile() bool {
	text, err := os.ReadFile(filepath.Join(s.LVM, "lvm.conf"))
	if err != nil {
		return false
	}
	more, _ := os.ReadFile(filepath.Join(s.LVM, "lvmlocal.conf"))
	c, err := lvm.ReadConfig(string(text), string(more))
	if err != nil || c.DevicesFile == "" {
		return false
	}
	_, err = os.Stat(filepath.Join(s.LVM, "devices", filepath.Base(c.DevicesFile)))
	return err == nil
}

// list puts the group's disks into LVM's devices file, where it has one, or takes
// them out.
func (s Shower) list(ctx context.Context, how string, paths []string) error {
	if !s.devicesFile() {
		return nil
	}
	for _, p := range paths {
		_, said, err := run(ctx, "lvmdevices", "--yes", how, p)
		if err != nil && how != "--deldev" {
			return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: showOp, Object: p, Reason: "LVM looks only at devices that are listed in a file, and does not take this one: " + said,
				Remedy: fmt.Sprintf("Run lvmdevices %s %s and mend what it says", how, p), Err: err}
		}
	}
	return nil
}

// forget removes what LVM has kept of the group's description: a backup that is
// of no use, of a group that is written by us.
func (s Shower) forget(id lvm.Identity) {
	found, _ := filepath.Glob(filepath.Join(s.LVM, "archive", id.Name+"_*.vg"))
	for _, path := range append(found, filepath.Join(s.LVM, "backup", id.Name)) {
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(id.UUID)) {
			_ = os.Remove(path)
		}
	}
}
