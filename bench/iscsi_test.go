package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/requester"
	vm "github.com/umbra-vss/umbra/test/lab"
)

// What an import over iSCSI may take.
const (
	limitByHand  = 1.5 // times what is done by hand
	limit16ISCSI = 4   // 16 LUNs, times one
	iscsiLUNs    = 16
	targetFolder = "/sys/kernel/config/target/iscsi/iqn*/tpgt_1"
)

// timed is a script whose output ends with how long it took, in hundredths of a
// second, as the machine's own clock has it.
func timed(script string) string {
	return "read t0 x </proc/uptime\n" + script + "\nread t1 x </proc/uptime; echo $t0 $t1"
}

func took(b *testing.B, out string) time.Duration {
	b.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	f := strings.Fields(lines[len(lines)-1])
	if len(f) == 2 {
		t0, err0 := strconv.ParseFloat(f[0], 64)
		t1, err1 := strconv.ParseFloat(f[1], 64)
		if err0 == nil && err1 == nil {
			return time.Duration((t1 - t0) * float64(time.Second)).Round(time.Millisecond)
		}
	}
	b.Fatalf("no time in %q", out)
	return 0
}

// BenchmarkISCSI is the import of LUNs over iSCSI, on virtual machines, beside
// the same by hand. Only ratios mean something there.
func BenchmarkISCSI(b *testing.B) {
	if os.Getenv(vm.Env) != "1" {
		b.Skipf("virtual machines are started only with %s=1", vm.Env)
	}
	l := vm.Start(b, vm.Machines{"array", "a", "b"})
	array, ma, mb := l.Machine("array"), l.Machine("a"), l.Machine("b")
	array.Sh("modprobe xfs && mkfs.xfs -q /dev/vda && mkdir -p /store && mount -t xfs /dev/vda /store && truncate -s 16M /store/byhand")
	array.Start("serve", "umbra array serve --dir /store/array --listen tcp://%[1]s:7480 --iscsi-portal %[1]s:3260", array.Address()).WaitFor("umbra: ready")
	for _, m := range []*vm.Machine{ma, mb} {
		array.Sh("umbra array enroll %s --bundle /root/%[1]s.bundle", m.Name)
		carry(b, array, "/root/"+m.Name+".bundle", m, "/root/join.bundle")
		m.Start("daemon", "umbra daemon").WaitFor("ready")
		m.Sh("umbra join /root/join.bundle")
	}
	var naas []string
	for i := range iscsiLUNs {
		naas = append(naas, array.Sh("umbra array lun create l%d --size 16M && umbra array unmask l%[1]d a >/dev/null", i))
	}
	ma.Sh("umbra rescan")
	var volumes []string
	for i, naa := range naas {
		ma.Sh("d=$(grep -ls %s /sys/block/sd*/device/wwid | cut -d/ -f4); mkfs.ext4 -q /dev/$d && mkdir -p /srv/%d && mount /dev/$d /srv/%[2]d", naa, i)
		volumes = append(volumes, fmt.Sprintf("/srv/%d", i))
	}
	// A disk that b keeps, so that it has a session: logging in is in neither.
	array.Sh("umbra array lun create kept --size 16M && umbra array unmask kept b")
	mb.Sh("umbra rescan")
	session := mb.Sh("ls /sys/class/iscsi_session | sed s/session//")

	importSet := func(volumes []string) (time.Duration, []requester.Phase) {
		ma.Sh("rm -f /root/set.umbra; umbra create %s --transportable --document /root/set.umbra", strings.Join(volumes, " "))
		carry(b, ma, "/root/set.umbra", mb, "/root/set.umbra")
		var im struct {
			Timeline []requester.Phase `json:"timeline"`
		}
		must(b, json.Unmarshal([]byte(mb.Sh("umbra import /root/set.umbra --output json")), &im))
		mb.Sh("umbra delete all")
		return usable(im.Timeline), im.Timeline
	}
	undo := func(n int) {
		array.Sh("cd %s; for i in $(seq 301 %d); do rm acls/*:b/lun_$i/x; rmdir acls/*:b/lun_$i; rm lun/lun_$i/x; rmdir lun/lun_$i; rmdir /sys/kernel/config/target/core/fileio_$i/x; done", targetFolder, 300+n)
	}
	byHand := func(n int) (atArray, atHost time.Duration) {
		there, here := scripts(n, session)
		atArray, atHost = took(b, array.Sh("%s", timed(there))), took(b, mb.Sh("%s", timed(here)))
		mb.Sh("udevadm settle; for w in $(grep -ls 6001405badc0ffee /sys/block/sd*/device/wwid); do echo 1 >${w%/wwid}/delete; done; udevadm settle")
		undo(n)
		return atArray, atHost
	}
	// What the kernel needs to look at n places one after the other, and nothing
	// else: neither udev's programs nor ours.
	kernel := func(n int) time.Duration {
		there, _ := scripts(n, session)
		array.Sh("%s", there)
		mb.Sh("udevadm settle && udevadm control --stop-exec-queue")
		d := took(b, mb.Sh("%s", timed(fmt.Sprintf(`before=$(ls -d /sys/block/sd* | wc -l); scan=$(echo /sys/class/scsi_host/host*/scan)
for i in $(seq 301 %d); do echo "0 0 $i" >$scan; done
until set -- /dev/sd*; test $# = $((before + %d)); do :; done`, 300+n, n))))
		mb.Sh("udevadm control --start-exec-queue; udevadm settle; for w in $(grep -ls 6001405badc0ffee /sys/block/sd*/device/wwid); do echo 1 >${w%/wwid}/delete; done; udevadm settle")
		undo(n)
		return d
	}
	importSet(volumes[:1]) // programs are read, code is translated
	byHand(1)
	var hand, handArray, one, many, manyHand, oneHeld, manyHeld, oneKernel, manyKernel samples
	var last []requester.Phase
	for b.Loop() {
		x, y := byHand(1)
		hand, handArray = append(hand, x+y), append(handArray, x)
		d, _ := importSet(volumes[:1])
		one = append(one, d)
		d, last = importSet(volumes)
		many = append(many, d)
		v, w := byHand(iscsiLUNs)
		manyHand = append(manyHand, v+w)
		// What udev's programs have of it: they share the one processor.
		mb.Sh("udevadm control --stop-exec-queue")
		d, _ = importSet(volumes[:1])
		oneHeld = append(oneHeld, d)
		mb.Sh("udevadm control --start-exec-queue && udevadm settle && udevadm control --stop-exec-queue")
		d, _ = importSet(volumes)
		manyHeld = append(manyHeld, d)
		mb.Sh("udevadm control --start-exec-queue && udevadm settle")
		oneKernel, manyKernel = append(oneKernel, kernel(1)), append(manyKernel, kernel(iscsiLUNs))
		b.Logf("by hand %v + %v and %v + %v, one %v, %d %v, the kernel alone %v and %v", x, y, v, w, one[len(one)-1], iscsiLUNs, many[len(many)-1], oneKernel[len(oneKernel)-1], manyKernel[len(manyKernel)-1])
	}
	for _, p := range last {
		b.Logf("%-14s %-20s %8.1f ms at %8.1f", p.Name, p.Object, ms(p.Duration), ms(p.Start))
	}
	b.ReportMetric(0, "ns/op")
	results.add(row{what: "iSCSI import, 1 LUN", measured: msText(one.median()), against: fmt.Sprintf("by hand %s (%s of it at the array)", msText(hand.median()), msText(handArray.median())), value: ratio(one.median(), hand.median()), limit: limitByHand, unit: "x"})
	results.add(row{what: fmt.Sprintf("iSCSI import, %d LUNs", iscsiLUNs), measured: msText(many.median()), against: "1 LUN " + msText(one.median()), value: ratio(many.median(), one.median()), limit: limit16ISCSI, unit: "x"})
	results.add(row{what: fmt.Sprintf("iSCSI import, %d LUNs", iscsiLUNs), measured: msText(many.median()), against: fmt.Sprintf("%d by hand %s", iscsiLUNs, msText(manyHand.median())), value: ratio(many.median(), manyHand.median()), unit: "x"})
	results.add(row{what: fmt.Sprintf("iSCSI, %d LUNs by hand", iscsiLUNs), measured: msText(manyHand.median()), against: "1 by hand " + msText(hand.median()), value: ratio(manyHand.median(), hand.median()), unit: "x"})
	results.add(row{what: fmt.Sprintf("the kernel alone, %d LUNs", iscsiLUNs), measured: msText(manyKernel.median()), against: "1 LUN " + msText(oneKernel.median()), value: ratio(manyKernel.median(), oneKernel.median()), unit: "x"})
	results.add(row{what: fmt.Sprintf("iSCSI import, %d LUNs, udev held back", iscsiLUNs), measured: msText(manyHeld.median()), against: "1 LUN " + msText(oneHeld.median()), value: ratio(manyHeld.median(), oneHeld.median()), unit: "x"})
}

// scripts do by hand what an import of n LUNs does: they show them to b, and make
// their disks arrive there.
func scripts(n int, session string) (atArray, atHost string) {
	var there, here strings.Builder
	fmt.Fprintf(&there, "cd %s\n", targetFolder)
	fmt.Fprintf(&here, "iscsiadm -m session -r %s --rescan >/dev/null\n", session)
	for i := 1; i <= n; i++ {
		serial := fmt.Sprintf("badc0ffee00000000000000%02x", i)
		fmt.Fprintf(&there, `d=/sys/kernel/config/target/core/fileio_%[1]d/x; mkdir -p $d
echo -n fd_dev_name=/store/byhand,fd_dev_size=16777216 >$d/control; echo %[2]s >$d/wwn/vpd_unit_serial; echo 1 >$d/enable
mkdir lun/lun_%[1]d; ln -s $d lun/lun_%[1]d/x
cd acls/*:b; mkdir lun_%[1]d; ln -s ../../lun/lun_%[1]d lun_%[1]d/x; echo 1 >lun_%[1]d/write_protect; cd ../..
`, 300+i, serial)
		fmt.Fprintf(&here, "until f=$(grep -ls 6001405%s /sys/block/sd*/device/wwid); do :; done; f=${f#/sys/block/}; until test -b /dev/${f%%%%/*}; do :; done\n", serial)
	}
	return there.String(), here.String()
}

// usable is how long an import took until the disks of all copies were there,
// verified and recorded.
func usable(timeline []requester.Phase) (end time.Duration) {
	for _, p := range timeline {
		if p.Object == "" && p.Name != "mount" && p.Name != "finish" {
			end = max(end, p.Start+p.Duration)
		}
	}
	return end
}

func carry(b *testing.B, from *vm.Machine, file string, to *vm.Machine, as string) {
	b.Helper()
	data, err := from.Pull(b.Context(), file)
	if err == nil {
		err = to.Push(b.Context(), data, as, 0o600)
	}
	must(b, err)
}
