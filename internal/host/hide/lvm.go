package hide

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/vss"
)

// udev's rules keep LVM from activating a copy when it comes. They do not keep
// vgs, vgchange and the others from looking at every disk when somebody runs
// them, and a copy has its original's UUIDs: beside the original LVM sees one
// physical volume twice and refuses to activate the group, also the original;
// without it the copy is activated. So LVM has a filter of its own. It matches a
// link that the rules give to each hidden device, and therefore never changes.

// hiddenLinks is where hidden devices have a link, by their kernel's name.
const hiddenLinks = "umbra/hidden/"

// LVMDir is where LVM's configuration is.
const LVMDir = "/etc/lvm"

// lvmPattern is the filter. The second pattern fits nothing: LVM's pvscan looks at
// links only if a filter accepts something by one.
var lvmPattern = []string{"r|^/dev/" + hiddenLinks + "|", "a|^/dev/disk/by-id/umbra-none$|"}

const lvmBegin, lvmEnd = "# Umbra: begin", "# Umbra: end"

var lvmText = fmt.Sprintf(`
%s. LVM does not look at shadow copies that are imported here, which
# have their originals' UUIDs. All other disks are as before.
devices {
	global_filter = [ "%s", "%s" ]
}
%s
`, lvmBegin, lvmPattern[0], lvmPattern[1], lvmEnd)

// filterLVM makes sure that LVM's programs, if they are installed, do not see
// hidden devices. Where LVM has no filter it is given one, in lvmlocal.conf. An
// administrator's own filter is not touched: if it does not begin with ours, that
// is an error which says what to add.
func (r Rules) filterLVM(ctx context.Context) error {
	if r.LVM == "" {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	main, local := filepath.Join(r.LVM, "lvm.conf"), filepath.Join(r.LVM, "lvmlocal.conf")
	text, err := os.ReadFile(main)
	if errors.Is(err, os.ErrNotExist) {
		return nil // no LVM here
	}
	if err != nil {
		return unwritable(main, err)
	}
	more, err := os.ReadFile(local)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return unwritable(local, err)
	}
	c, err := lvm.ReadConfig(string(text), string(more))
	if err != nil {
		return lvmVisible(r.LVM, "LVM's configuration cannot be understood", err)
	}
	if c.DevicesFile != "" {
		// LVM looks at what is listed, which copies are not.
		if _, err := os.Stat(filepath.Join(r.LVM, "devices", filepath.Base(c.DevicesFile))); err == nil {
			return nil
		}
	}
	switch {
	case len(c.Filter) >= 2 && c.Filter[0] == lvmPattern[0] && c.Filter[1] == lvmPattern[1]:
		return nil
	case c.Set:
		return lvmVisible(r.LVM, "LVM has a filter that lets it see copies, which have their originals' UUIDs", nil)
	}
	mode := os.FileMode(0o644)
	if st, err := os.Stat(local); err == nil {
		mode = st.Mode().Perm()
	}
	if err := replace(local, string(more)+lvmText); err != nil {
		return lvmVisible(local, "LVM would see copies, which have their originals' UUIDs, and its filter cannot be written", err)
	}
	if mode != 0o644 {
		return os.Chmod(local, mode)
	}
	return nil
}

func lvmVisible(object, reason string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: hideOp, Object: object, Reason: reason, Err: err,
		Remedy: fmt.Sprintf("Let devices/global_filter in %s/lvm.conf begin with \"%s\", \"%s\", and try again", LVMDir, lvmPattern[0], lvmPattern[1])}
}
