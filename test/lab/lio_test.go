package lab_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/test/lab"
)

// byHand is a target set up as an administrator would, with the kernel's own
// files: what umbra does with them is measured against it.
type byHand struct{ array *lab.Machine }

const (
	targetName = "iqn.2026-01.lab:array"
	tpg        = "/sys/kernel/config/target/iscsi/" + targetName + "/tpgt_1"
	core       = "/sys/kernel/config/target/core/fileio_0"
)

// newByHand makes a target without secrets for some hosts, and a filesystem for
// its LUNs' files.
func newByHand(array *lab.Machine, hosts ...string) byHand {
	array.Sh(`mkfs.xfs -q /dev/vda && mkdir /luns && mount /dev/vda /luns
mkdir -p %[1]s/np/%[2]s:3260
echo 0 >%[1]s/attrib/authentication; echo 0 >%[1]s/attrib/generate_node_acls; echo 0 >%[1]s/attrib/demo_mode_write_protect
echo 1 >%[1]s/enable`, tpg, array.Address())
	for _, h := range hosts {
		array.Sh("mkdir %s/acls/iqn.2026-01.io.umbra:%s", tpg, h)
	}
	return byHand{array}
}

// serials are the digits of a LUN's NAA identifier that LIO lets one choose.
func serial(naa lun.NAA) string { return naa.String()[len("naa.6001405"):] }

// create makes a LUN of a sparse file. The serial comes before enable, only
// hexadecimal digits count.
func (b byHand) create(name, size string, naa lun.NAA) {
	b.array.Sh(`truncate -s %[3]s /luns/%[2]s.lun && mkdir -p %[1]s/%[2]s
echo -n fd_dev_name=/luns/%[2]s.lun,fd_dev_size=$(stat -c %%s /luns/%[2]s.lun) >%[1]s/%[2]s/control
echo %[4]s >%[1]s/%[2]s/wwn/vpd_unit_serial && echo 1 >%[1]s/%[2]s/enable`, core, name, size, serial(naa))
}

// give maps a LUN to a host under a number, which is also its number at the
// target.
func (b byHand) give(name, host string, number int) {
	b.array.Sh(`mkdir -p %[1]s/lun/lun_%[4]d && { test -e %[1]s/lun/lun_%[4]d/x || ln -s %[2]s/%[3]s %[1]s/lun/lun_%[4]d/x; }
mkdir %[1]s/acls/iqn.2026-01.io.umbra:%[5]s/lun_%[4]d && ln -s %[1]s/lun/lun_%[4]d %[1]s/acls/iqn.2026-01.io.umbra:%[5]s/lun_%[4]d/x`,
		tpg, core, name, number, host)
}

// take takes it back, from the host and from the target.
func (b byHand) take(host string, number int) {
	b.array.Sh(`rm %[1]s/acls/iqn.2026-01.io.umbra:%[2]s/lun_%[3]d/x && rmdir %[1]s/acls/iqn.2026-01.io.umbra:%[2]s/lun_%[3]d
rm %[1]s/lun/lun_%[3]d/x && rmdir %[1]s/lun/lun_%[3]d`, tpg, host, number)
}

// login connects a host; nothing is scanned.
func (b byHand) login(host *lab.Machine) {
	host.Sh("iscsiadm -m discovery -t st -p array && iscsiadm -m node -T %s -p %s --login", targetName, b.array.Address())
}

// scan makes LUNs arrive that have the numbers from 0, and udev be done with
// them, and returns their disks' names, "-" for one that did not come. Nothing
// else is scanned.
func scan(host *lab.Machine, naas ...lun.NAA) []string {
	var script strings.Builder
	script.WriteString("h=$(ls /sys/class/iscsi_host | head -n 1)\n")
	for i := range naas {
		fmt.Fprintf(&script, "echo '0 0 %d' >/sys/class/scsi_host/$h/scan\n", i)
	}
	script.WriteString("udevadm settle\n")
	for _, naa := range naas {
		fmt.Fprintf(&script, "f=$(grep -ls %s /sys/block/sd*/device/wwid | cut -d/ -f4); echo ${f:--}\n", naa)
	}
	return strings.Fields(host.Sh("%s", script.String()))
}

func parseNAA(t *testing.T, s string) lun.NAA {
	t.Helper()
	naa, err := lun.ParseNAA(s)
	if err != nil {
		t.Fatal(err)
	}
	return naa
}

func infoOf(naa lun.NAA) lun.Info {
	return lun.Info{Version: 1, StorageIDs: []lun.StorageID{naa.StorageID()}}
}

// TestByHand shows that the pieces fit: a LUN from one kernel's target arrives
// on another's initiator as a SCSI disk, known by the identifier that was
// chosen, and on no host that it was not given to.
func TestByHand(t *testing.T) {
	l := lab.Start(t, lab.Machines{"array", "a", "b"})
	array, a, b := l.Machine("array"), l.Machine("a"), l.Machine("b")
	san := newByHand(array, "a", "b")
	one, two := parseNAA(t, "naa.6001405000000000000000000000001a"), parseNAA(t, "naa.6001405000000000000000000000002b")
	san.create("one", "64M", one)
	san.give("one", "a", 0)
	san.login(a)
	san.login(b)
	disk := scan(a, one)[0]
	if disk == "-" {
		t.Fatalf("no disk on a:\n%s", a.Sh("ls /sys/block; cat /sys/block/sd*/device/wwid || true"))
	}
	a.Sh("mkfs.ext4 -q /dev/%s && mount /dev/%[1]s /mnt && echo hello >/mnt/greeting && umount /mnt", disk)
	if got := a.Sh("readlink -f /dev/disk/by-id/wwn-0x%s", one.String()[4:]); got != "/dev/"+disk {
		t.Errorf("udev's link to the identifier is %s, not %s", got, disk)
	}
	page := a.Sh("sg_vpd --page=di /dev/%s", disk)
	t.Log(page)
	if got := scan(b, one)[0]; got != "-" {
		t.Errorf("b sees %s, which is a's", got)
	}
	// The number is used again, for another LUN and another host.
	a.Sh("echo 1 >/sys/block/%s/device/delete", disk)
	san.take("a", 0)
	san.create("two", "32M", two)
	san.give("two", "b", 0)
	if got := scan(b, two)[0]; got == "-" {
		t.Errorf("no disk on b:\n%s", b.Sh("ls /sys/block; cat /sys/block/sd*/device/wwid || true"))
	}
	if got := scan(a, one)[0]; got != "-" {
		t.Errorf("%s is still on a", got)
	}
}
