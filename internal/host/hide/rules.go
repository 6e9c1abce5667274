package hide

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/host/lvm"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Family is how the NAA identifiers of one array's LUNs begin: at least the
// digits up to its company identifier, in lower case.
type Family string

func (f Family) valid() bool {
	return len(f) >= 7 && len(f) < 32 && strings.Trim(string(f), "0123456789abcdef") == ""
}

// Has reports whether a LUN is one of the array's by its name.
func (f Family) Has(l lun.Info) bool {
	n, ok := l.NAA()
	return ok && strings.HasPrefix(hex.EncodeToString(n[:]), string(f))
}

// effects are what a hidden device's event says to the rules after ours.
var effects = strings.Join([]string{
	`ENV{SYSTEMD_READY}="0"`,                                // no device unit; btrfs, md and LVM rules stop at it
	`ENV{UDISKS_IGNORE}="1"`,                                // not shown, not mounted by desktops
	`ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1"`,   // no blkid, so no ID_FS_TYPE and no links
	`ENV{DM_UDEV_DISABLE_OTHER_RULES_FLAG}="1"`,             // LVM's and other packages' rules stop at it
	`ENV{DM_MULTIPATH_DEVICE_PATH}="0"`, `ENV{nompath}="1"`, // multipath: not a path
	`SYMLINK+="` + hiddenLinks + `%k"`, // by which LVM's filter finds it
	`ENV{UMBRA_HIDDEN}="1"`,            // for people who ask udevadm info why
}, ", ")

// fileName is the rules file of a LUN that must be hidden, admittedFile that of
// one that must not. udev reads the second before those that hide arrays.
func fileName(l lun.Info) string     { return "10-umbra-" + fileSafe(l.Name()) + ".rules" }
func admittedFile(l lun.Info) string { return "09-umbra-" + fileSafe(l.Name()) + ".rules" }

func familyFile(f Family) string { return "10-umbra-array-" + string(f) + ".rules" }

// fileSafe is the identifier where it is fit for a file name, else a digest of
// it.
func fileSafe(name string) string {
	if len(name) > 100 || strings.Trim(name, plain) != "" {
		sum := sha256.Sum256([]byte(name))
		name = "id-" + hex.EncodeToString(sum[:16])
	}
	return name
}

// Mark is what the name of a loop device's backing file has to be for the device
// to be as hidden as the LUN, wherever that file is.
func Mark(l lun.Info) string { return fileSafe(l.Name()) }

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

// render writes the rules that hide a LUN.
func render(l lun.Info) (string, error) {
	conditions, err := conditionsOf(l)
	if err != nil {
		return "", err
	}
	return rulesFile("Written by Umbra for a LUN of a shadow copy, which must stay out of sight.\n# Removed when the copy is deleted or broken out of its set.",
		append(each(conditions, effects), serials(l)...)), nil
}

// renderAdmitted writes the rules that except an original from its array's.
func renderAdmitted(l lun.Info) (string, error) {
	conditions, err := conditionsOf(l)
	if err != nil {
		return "", err
	}
	return rulesFile("Written by Umbra for an original LUN of a joined array: umbra rescan let it\n# through. Removed by umbra detach.", each(conditions, `ENV{UMBRA_ADMITTED}="1"`)), nil
}

// renderFamily writes the rules that hide an array's LUNs but the admitted.
func renderFamily(f Family) string {
	return rulesFile("Written by Umbra for a joined array: its LUNs stay out of sight unless umbra\n# rescan let them through.",
		append(each(naaConditions(string(f), "*"), effects), fmt.Sprintf(`ENV{.UMBRA_WWID}=="naa.%s*", ENV{ID_SERIAL}="$env{.UMBRA_WWID}"`, f)), `ENV{UMBRA_ADMITTED}=="1"`)
}

// MappedPrefix begins the UUIDs of device-mapper devices that are volumes of
// hidden LUNs.
const MappedPrefix = "UMBRA-VOLUME-"

// GroupPrefix begins the UUIDs of device-mapper devices that are disks of a volume
// group which was given another identity. LVM's programs see them; nobody else is
// to look at them, nor to activate anything because they came.
const GroupPrefix = "UMBRA-GROUP-"

// groupEffects are what an event of such a disk says, and of the group's volumes,
// which begin like their originals: they have the links that their group gives
// them, and none by what is on them.
var groupEffects = strings.Join([]string{
	`ENV{UDISKS_IGNORE}="1"`,
	`ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1"`,
	`ENV{DM_UDEV_DISABLE_DISK_RULES_FLAG}="1"`,
	`ENV{DM_UDEV_DISABLE_OTHER_RULES_FLAG}="1"`,
	`ENV{UMBRA_GROUP}="1"`,
}, ", ")

const mappedFile = "10-umbra-mapped.rules"

// renderMapped writes the rules that hide what is put together from hidden LUNs.
// What its maker told udev comes with two events only; this holds for all.
func renderMapped() string {
	hidden := []string{`ATTR{dm/uuid}=="` + MappedPrefix + `*"`}
	named := []string{`ATTR{dm/uuid}=="` + GroupPrefix + `*"`, `ATTR{dm/uuid}=="LVM-` + lvm.Mark + `*"`}
	return rulesFile("Written by Umbra: volumes put together from LUNs of shadow copies stay out of\n# sight.", each(hidden, effects)) +
		strings.ReplaceAll(rulesFile("Volume groups that umbra expose --new-identity named are seen by LVM, and found by\n# nothing that is on them.", each(named, groupEffects)), "umbra_end", "umbra_group_end")
}

// conditionsOf are the matches that find a LUN, one rule each. Disks and their
// partitions are matched alike: ATTRS also looks at a device's parents. The last
// is for loop devices over it (package surface).
func conditionsOf(l lun.Info) ([]string, error) {
	var out []string
	for _, id := range l.StorageIDs {
		switch {
		case !id.Qualifies():
		case id.Type == lun.IDFCPHName:
			out = append(out, naaConditions(hex.EncodeToString(id.Identifier), "")...)
		default:
			out = append(out, fmt.Sprintf(`KERNEL!="loop*|nbd*", ATTRS{wwid}=="%s"`, pattern(id.String())))
		}
	}
	if len(out) == 0 {
		return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: hideOp, Object: l.Name(),
			Reason: "nothing in its identity tells this LUN from others", Remedy: "Use LUNs with a page 0x83 identifier of type 1, 2, 3 or 8"}
	}
	if mark := loopCondition(pattern(Mark(l))); !slices.Contains(out, mark) {
		out = append(out, mark)
	}
	return out, nil
}

func loopCondition(mark string) string {
	return fmt.Sprintf(`KERNEL=="loop*", ATTRS{loop/backing_file}=="*%s*"`, mark)
}

// naaConditions find the LUNs whose NAA identifier begins with some digits: all
// of them, or with "*" as the rest, some.
//
// udev tries them on every event of a block device, those of each LUN that is
// hidden. ATTRS goes through all parents of a device, so it is asked once
// (wwidRule), and not of devices that have no such thing.
func naaConditions(digits, rest string) []string {
	// NVMe has the same digits in another order.
	wwids := append([]string{"naa." + digits + rest}, identity.NamespaceWWIDs(digits)...)
	return []string{
		fmt.Sprintf(`ENV{.UMBRA_WWID}=="%s"`, strings.Join(wwids, "|")),
		loopCondition("naa." + digits),
		fmt.Sprintf(`KERNEL=="nbd*", ATTRS{backend}=="umbra/naa.%s*"`, digits),
		fmt.Sprintf(`ENV{ID_WWN_WITH_EXTENSION}=="0x%s%s"`, digits, rest),
		// scsi_id puts the designator's type before it: 3 for NAA.
		fmt.Sprintf(`ENV{ID_SERIAL}=="3%s%s"`, digits, rest),
	}
}

// wwidRule keeps what the kernel says of a disk for the rules after it, in the
// first of our files that udev comes to. A name with a dot is not kept longer than
// the event.
const wwidRule = `ENV{.UMBRA_WWID}=="", KERNEL!="loop*|dm-*|nbd*", ATTRS{wwid}=="?*", ENV{.UMBRA_WWID}="$attr{wwid}"`

// serials are rules that say a SCSI disk's serial number as sg3-utils' would,
// whose programs are not started for hidden disks (inquiry.go): multipathd takes
// an interest in a disk that has none.
func serials(l lun.Info) []string {
	naa, ok := l.NAA()
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf(`ENV{.UMBRA_WWID}=="%s", ENV{ID_SERIAL}="3%s"`, naa, hex.EncodeToString(naa[:]))}
}

// each is a rule with the same effects for each of some conditions.
func each(conditions []string, effects string) (rules []string) {
	for _, c := range conditions {
		rules = append(rules, c+", "+effects)
	}
	return rules
}

// rulesFile is rules for block devices, unless they meet an exception.
func rulesFile(comment string, rules []string, exceptions ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", comment)
	for _, skip := range append([]string{`ACTION=="remove"`, `SUBSYSTEM!="block"`}, exceptions...) {
		fmt.Fprintf(&b, "%s, GOTO=\"umbra_end\"\n", skip)
	}
	if strings.Contains(strings.Join(rules, "\n"), ".UMBRA_WWID") {
		fmt.Fprintf(&b, "%s\n", wwidRule)
	}
	for _, r := range rules {
		fmt.Fprintf(&b, "%s\n", r)
	}
	fmt.Fprintf(&b, "LABEL=\"umbra_end\"\n")
	return b.String()
}
