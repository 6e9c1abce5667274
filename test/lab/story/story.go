package story

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/umbra-vss/umbra/test/lab"
)

func tell(t *teller) {
	t.step("An array, machine A and machine B: virtual machines, with nothing between them but a wire")
	l := lab.Start(t, lab.Machines{"array", "a", "b"})
	array, a, b := l.Machine("array"), l.Machine("a"), l.Machine("b")
	t.say("each has a kernel of its own: %s", a.Sh("uname -r"))
	array.Sh("modprobe xfs && mkfs.xfs -q /dev/vda && mkdir -p /store && mount -t xfs /dev/vda /store")
	array.Start("serve", "umbra array serve --dir /store/array --listen tcp://%[1]s:7480 --iscsi-portal %[1]s:3260", array.Address()).WaitFor("umbra: ready")
	for _, m := range []*lab.Machine{a, b} {
		array.Sh("umbra array enroll %s --bundle /root/%[1]s.bundle", m.Name)
		carry(t, array, "/root/"+m.Name+".bundle", m, "/root/join.bundle")
		m.Start("daemon", "umbra daemon").WaitFor("ready")
		m.Sh("umbra join /root/join.bundle")
	}
	t.say("the array exports over iSCSI; a and b have joined it")

	t.step("Two LUNs for A, formatted ext4 and xfs")
	volumes := map[string]string{"db": "ext4", "log": "xfs"}
	for _, v := range []string{"db", "log"} {
		size := map[string]string{"db": "64M", "log": "320M"}[v] // an XFS has at least 300
		naa := array.Sh("umbra array lun create %s --size %s && umbra array unmask %[1]s a >/dev/null", v, size)
		a.Sh("umbra rescan")
		disk := a.Sh("grep -ls %s /sys/block/sd*/device/wwid | cut -d/ -f4", naa)
		a.Sh("mkfs.%[1]s -q /dev/%[2]s && mkdir -p /srv/%[3]s && mount -t %[1]s /dev/%[2]s /srv/%[3]s", volumes[v], disk, v)
		t.say("%s is /dev/%s on a, %s mounted at /srv/%s", naa, disk, volumes[v], v)
	}

	t.step("A workload on A: numbered records, alternately to both volumes, each durable before the next")
	a.Start("load", "i=0; while :; do i=$((i+1)); for v in db log; do echo $i >>/srv/$v/records; sync /srv/$v/records; done; done")
	written := func() int { return number(t, a.Sh("wc -l </srv/log/records")) }
	a.Sh("until test -s /srv/log/records && test $(wc -l </srv/log/records) -gt 10; do sleep 0.1; done")
	t.say("%d records so far, and it goes on", written())

	t.step("A makes a transportable shadow copy set of both volumes, under load")
	before := written()
	t.say("$ umbra create /srv/db /srv/log --transportable --context app-rollback --document set.umbra")
	t.say("%s", a.Sh("umbra create /srv/db /srv/log --transportable --context app-rollback --document /root/set.umbra"))
	t.say("%d records were durable before, %d after", before, written())
	carry(t, a, "/root/set.umbra", b, "/root/set.umbra")
	t.say("set.umbra (%s bytes) is all that travels; the copies are masked from everybody", a.Sh("stat -c %%s %s", "/root/set.umbra"))

	t.step("A is switched off: B needs nothing of A")
	a.PowerOff()

	t.step("B checks, then imports the set from the document alone")
	b.Fails("ls /sys/block | grep ^sd")
	t.say("$ umbra import set.umbra --check")
	b.Sh("umbra import /root/set.umbra --check")
	t.say("$ umbra import set.umbra")
	t.say("%s", b.Sh("umbra import /root/set.umbra"))

	t.step("Not one byte was copied")
	copied := 0
	for _, l := range luns(t, array) {
		if !l.Copy {
			continue
		}
		copied++
		f := strings.Fields(array.Sh(extents, "/store/array/store/luns/"+l.NAA))
		if len(f) != 2 || number(t, f[0])*10 < number(t, f[1])*5 {
			t.Fatalf("%s: %s of its sectors are shared, and all", l.NAA, f)
		}
		t.say("%s: %d of %d KiB shared with its original", l.NAA, number(t, f[0])/2, number(t, f[1])/2)
	}
	if copied != 2 {
		t.Fatalf("the array has %d copies", copied)
	}
	for _, line := range strings.Split(b.Sh("cd /sys/block && for d in sd*; do echo $d $(cat $d/stat); done"), "\n") {
		f := strings.Fields(line)
		if len(f) < 8 || f[7] != "0" {
			t.Fatalf("%s was written to", line)
		}
		t.say("/dev/%s: import and mount read %d KiB (superblocks, roots) and wrote 0", f[0], number(t, f[3])/2)
	}

	t.step("B exposes the copies and reads them")
	copies := strings.Fields(b.Sh("ls /run/umbra/copies"))
	if len(copies) != 2 {
		t.Fatalf("%d copies, want 2", len(copies))
	}
	found := map[string]int{}
	for i, c := range copies {
		folder := "/mnt/" + strconv.Itoa(i)
		t.say("$ umbra expose %s %s", c, folder)
		b.Sh("mkdir -p %s && umbra expose %s %[1]s", folder, c)
		b.Fails("touch %s/intruder", folder)
		kind := b.Sh("findmnt -n -o FSTYPE %s", folder)
		// Every record is there once, in order, and whole.
		b.Sh("seq $(wc -l <%[1]s/records) | cmp - %[1]s/records", folder)
		found[kind] = number(t, b.Sh("wc -l <%s/records", folder))
	}
	switch db, log := found["ext4"], found["xfs"]; {
	case log < before:
		t.Fatalf("the copy has %d records, but %d were durable before it was made", log, before)
	case db != log && db != log+1:
		t.Fatalf("the copy is torn: one volume has %d records, the other %d", db, log)
	default:
		t.say("records 1 to %d are there, none is missing, torn or from later: one instant across both volumes", log)
	}

	t.step("B deletes the set; the array takes the LUNs back")
	t.say("$ umbra delete all")
	t.say("%s", b.Sh("umbra delete all"))
	b.Fails("ls -d /sys/block/sd* /sys/class/iscsi_session/*")
	for _, l := range luns(t, array) {
		if l.Copy {
			t.Fatalf("the array still has %s", l.NAA)
		}
	}
	t.say("no disk and no session is left on b, and no copy on the array; the originals are untouched")
}

// extents prints how many sectors a file shares with others, and how many it
// has. (0x2000 among an extent's flags is that it is shared.)
const extents = `xfs_io -r -c "fiemap -v" %s | awk '$1 ~ /^[0-9]+:$/ && $3 != "hole" { if ($5 ~ /[2367abef][0-9a-f][0-9a-f][0-9a-f]$/) s += $4; all += $4 } END { print s+0, all+0 }'`

// volume is what the array says of a LUN.
type volume struct {
	NAA  string `json:"naa"`
	Copy bool   `json:"copy"`
}

func luns(t *teller, array *lab.Machine) (all []volume) {
	if err := json.Unmarshal([]byte(array.Sh("umbra array lun list --output json")), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func number(t *teller, text string) int {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func carry(t *teller, from *lab.Machine, file string, to *lab.Machine, as string) {
	data, err := from.Pull(t.ctx, file)
	if err == nil {
		err = to.Push(t.ctx, data, as, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
