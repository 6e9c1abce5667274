package hide

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// effects are what a hidden device's event says to the rules after ours.
var effects = strings.Join([]string{
	`ENV{SYSTEMD_READY}="0"`,                                // no device unit; btrfs, md and LVM rules stop at it
	`ENV{UDISKS_IGNORE}="1"`,                                // not shown, not mounted by desktops
	`ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1"`,   // no blkid, so no ID_FS_TYPE and no links
	`ENV{DM_UDEV_DISABLE_OTHER_RULES_FLAG}="1"`,             // LVM's and other packages' rules stop at it
	`ENV{DM_MULTIPATH_DEVICE_PATH}="0"`, `ENV{nompath}="1"`, // multipath: not a path
	`ENV{UMBRA_HIDDEN}="1"`, // for people who ask udevadm info why
}, ", ")

// fileName is the rules file of a LUN. The identifier is in it where it is
// fit for a file name, else a digest of it.
func fileName(l lun.Info) string {
	name := l.Name()
	if len(name) > 100 || strings.Trim(name, plain) != "" {
		sum := sha256.Sum256([]byte(name))
		name = "id-" + hex.EncodeToString(sum[:16])
	}
	return "10-umbra-" + name + ".rules"
}

// plain characters mean themselves in file names and in udev's patterns.
const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:"

// pattern is an identifier as a udev pattern that cannot be more than one.
func pattern(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(plain, r) {
			return r
		}
		return '?'
	}, s)
}

// render writes the rules of a LUN. Disks and their partitions are matched
// alike: ATTRS also looks at a device's parents.
func render(l lun.Info) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by Umbra for a LUN of a shadow copy, which must stay out of sight.\n# Removed when the copy is deleted or broken out of its set.\n")
	fmt.Fprintf(&b, "ACTION==\"remove\", GOTO=\"umbra_end\"\nSUBSYSTEM!=\"block\", GOTO=\"umbra_end\"\n")
	n := 0
	match := func(condition string) { fmt.Fprintf(&b, "%s, %s\n", condition, effects) }
	for _, id := range l.StorageIDs {
		if !id.Qualifies() {
			continue
		}
		n++
		text := pattern(id.String())
		match(fmt.Sprintf(`ATTRS{wwid}=="%s"`, text))
		if id.Type != lun.IDFCPHName {
			continue
		}
		digits := hex.EncodeToString(id.Identifier)
		match(fmt.Sprintf(`ATTRS{loop/backing_file}=="*%s*"`, text))
		match(fmt.Sprintf(`ENV{ID_WWN_WITH_EXTENSION}=="0x%s"`, digits))
		// scsi_id puts the designator's type before it: 3 for NAA.
		match(fmt.Sprintf(`ENV{ID_SERIAL}=="3%s"`, digits))
	}
	if n == 0 {
		return "", &vss.Error{Code: vss.E_INVALIDARG, Op: hideOp, Object: l.Name(),
			Reason: "nothing in its identity tells this LUN from others", Remedy: "Use LUNs with a page 0x83 identifier of type 1, 2, 3 or 8"}
	}
	fmt.Fprintf(&b, "LABEL=\"umbra_end\"\n")
	return b.String(), nil
}
