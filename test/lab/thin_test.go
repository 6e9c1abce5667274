package lab_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/test/lab"
)

// pushTests builds a package's tests and puts them into a machine.
func pushTests(t *testing.T, m *lab.Machine, pkg string) string {
	t.Helper()
	name := filepath.Base(pkg) + ".test"
	file := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", file, "github.com/umbra-vss/umbra/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Push(t.Context(), b, "/root/"+name, 0o755); err != nil {
		t.Fatal(err)
	}
	return "/root/" + name
}

// A thin pool on a real kernel: device-mapper, the backend's conformance, and
// its death at every step of a copy.
func TestThinPool(t *testing.T) {
	l := lab.Start(t, lab.Machines{"array"})
	array := l.Machine("array")
	dm := pushTests(t, array, "internal/devicemapper")
	thin := pushTests(t, array, "internal/array/backend/lvmthin")
	array.Sh(`modprobe dm_thin_pool
echo "0 65536 linear /dev/vda 0" | dmsetup create meta
echo "0 524288 linear /dev/vda 65536" | dmsetup create data`)
	node := func(name string) string {
		return "/dev/" + strings.TrimSpace(array.Sh("dmsetup info -c --noheadings -o blkdevname %s", name))
	}
	data, meta := node("data"), node("meta")
	for _, run := range []string{
		fmt.Sprintf("UMBRA_TEST_DISK=%s %s -test.v -test.run TestKernel", data, dm),
		fmt.Sprintf("UMBRA_TEST_POOL=%s,%s %s -test.v -test.run 'TestConformance|TestDeath|TestForeignPool'", data, meta, thin),
	} {
		r, err := array.Run(t.Context(), "%s", run)
		if err != nil || r.Code != 0 {
			t.Errorf("%v: %s%s", err, r.Stdout, r.Stderr)
		}
		t.Logf("%s", r.Stdout)
	}
	thinMetadata(t, array, node)
}

// thinMetadata fills a pool's metadata, whose device is tiny: nothing new is made
// below the watermark, LUNs are written to as before, and it is enlarged while one
// is in use.
func thinMetadata(t *testing.T, array *lab.Machine, node func(name string) string) {
	t.Helper()
	// 256 KiB are 64 blocks, of which some ten are in use at once. A leaf has room
	// for 126 blocks of data.
	array.Sh(`for d in meta data; do dmsetup remove $d; done
echo "0 512 linear /dev/vda 1048576" | dmsetup create meta
echo "0 2097152 linear /dev/vda 2097152" | dmsetup create data`)
	data, meta := node("data"), node("meta")
	array.Sh("for d in %s %s; do dd if=/dev/zero of=$d bs=4096 count=1 2>/dev/null; done", data, meta)
	serve := func() *lab.Process {
		t.Helper()
		p := array.Start("serve", "umbra array serve --backend lvmthin --pool-data %s --pool-metadata %s --watermark 0.2 --dir /root/array --listen tcp://%s:7480", data, meta, array.Address())
		p.WaitFor("umbra: ready")
		return p
	}
	served := serve()
	naa := array.Sh("umbra array lun create big --size 900M")
	disk := array.Sh("ls /dev/mapper/umbra-*-%s || echo /dev/$(dmsetup info -c --noheadings -o blkdevname $(dmsetup ls | grep %[1]s | cut -f1))", naa)
	fill := func(at int) {
		t.Helper()
		array.Sh("dd if=/dev/zero of=%s bs=8M seek=%d count=4 oflag=direct conv=notrunc 2>/dev/null", disk, at*4)
	}
	at := 0
	for ; ; at++ {
		if at > 20 {
			t.Fatalf("not full: %s\n%s", array.Sh("umbra array info"), array.Sh("dmsetup status"))
		}
		fill(at)
		r, err := array.Run(t.Context(), "umbra array lun create n%d --size 4M", at)
		if err == nil {
			continue
		}
		if !strings.Contains(r.Stderr, "VSS_E_INSUFFICIENT_STORAGE") || !strings.Contains(r.Stderr, "metadata") {
			t.Fatalf("%s\n%s", r.Stderr, array.Sh("dmsetup status"))
		}
		break
	}
	if got := array.Sh("umbra array info"); !strings.Contains(got, "Attention") || !strings.Contains(got, "room for metadata") {
		t.Errorf("metadata below the watermark:\n%s", got)
	}
	// What is there goes on, while its metadata gets another 4 MiB.
	writer := array.Start("writer", "exec >/dev/null; while dd if=/dev/urandom of=%s bs=64k seek=$((i+=1)) count=1 oflag=direct conv=notrunc 2>/dev/null; do :; done", disk)
	array.Sh(`dmsetup suspend meta && echo "0 8704 linear /dev/vda 1048576" | dmsetup reload meta && dmsetup resume meta`)
	served.Stop()
	serve()
	if got := array.Sh("umbra array info"); strings.Contains(got, "room for metadata") {
		t.Errorf("enlarged metadata:\n%s", got)
	}
	array.Sh("umbra array lun create after --size 4M")
	if _, err := writer.Wait(expired(t)); err == nil {
		t.Error("who writes to a LUN meanwhile has ended")
	}
	array.Sh("dmesg | grep -E 'I/O error|switching pool' && exit 1 || true")
}

// expired is a context whose time has come.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	t.Cleanup(cancel)
	return ctx
}

// TestThinArray is a set of two LUNs in a thin pool on a volume group, over
// iSCSI, and imported over NVMe: copied under load, the array killed before the import, read on another
// host, deleted, its room given back; the array killed in the middle of a copy,
// with LUNs suspended; and the pool filled up to the watermark, and enlarged under
// a filesystem.
func TestThinArray(t *testing.T) {
	l := lab.Start(t, lab.Machines{"array", "a", "b"})
	s := &san{t: t, l: l, array: l.Machine("array")}
	array, a, b := s.array, l.Machine("a"), l.Machine("b")
	array.Sh("modprobe dm_thin_pool && lvm pvcreate -y /dev/vda && lvm vgcreate san /dev/vda")
	serve := func(env string) *lab.Process {
		t.Helper()
		p := array.Start("serve", "%[2]s umbra array serve --backend lvmthin --vg san --store-size 256M --watermark 0.1 --dir /root/array --listen tcp://%[1]s:7480 --iscsi-portal %[1]s:3260 --nvme-portal %[1]s:4420", array.Address(), env)
		p.WaitFor("umbra: ready")
		return p
	}
	serve("")
	s.join("a")
	b.Sh("mkdir -p /etc/umbra && echo 'transport = \"nvme\"' >/etc/umbra/umbra.toml")
	s.join("b")
	db, log := s.lun("db", "64M", "a"), s.lun("log", "64M", "a")
	a.Sh("umbra rescan")
	a.Sh(`mkdir -p /srv/db /srv/log
mkfs.ext4 -q /dev/%[1]s && mount /dev/%[1]s /srv/db && mkfs.ext4 -q /dev/%[2]s && mount /dev/%[2]s /srv/log
for v in db log; do head -c 800000 /dev/urandom >/srv/$v/data; done; sync; cd /srv && sha256sum */data >/root/sums`, s.disk(a, db), s.disk(a, log))
	sums, err := a.Pull(t.Context(), "/root/sums")
	if err != nil {
		t.Fatal(err)
	}
	free := func() int {
		t.Helper()
		n, err := strconv.Atoi(array.Sh("umbra array info --output json | tr , '\\n' | grep -o '\"free_bytes\": *[0-9]*' | grep -o '[0-9]*$'"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	devices := "dmsetup ls | cut -f1 | sort"
	before := array.Sh("%s", devices)

	load := a.Start("load", "i=0; while :; do i=$((i+1)); echo $i >>/srv/db/seq; echo $i >>/srv/log/seq; done")
	a.Sh("until test -s /srv/log/seq; do sleep 0.1; done")
	t.Log(a.Sh("umbra create /srv/db /srv/log --transportable --document /root/set.umbra"))
	load.Stop()
	array.Sh("kill -9 $(pidof umbra)")
	serve("")
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err == nil {
		err = b.Push(t.Context(), doc, "/root/set.umbra", 0o600)
	}
	if err == nil {
		err = b.Push(t.Context(), sums, "/root/sums", 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Log(b.Sh("umbra import /root/set.umbra"))
	b.Sh(`test $(ls /sys/block | grep -c '^nvme[0-9]*n[0-9]*$') = 2; ! ls /sys/block | grep ^sd
for d in $(ls /sys/block | grep '^nvme[0-9]*n[0-9]*$'); do
	blockdev --setrw /dev/$d
	if dd if=/dev/zero of=/dev/$d bs=4096 seek=1000 count=1 oflag=direct 2>/dev/null || blkdiscard -f /dev/$d 2>/dev/null; then echo "$d was written" >&2; exit 1; fi
done`)
	b.Sh(`mkdir -p /srv && cd /srv && for c in /run/umbra/copies/*; do for v in db log; do
	if test "$(sha256sum <$c/data | cut -d' ' -f1)" = "$(grep $v/data /root/sums | cut -d' ' -f1)"; then ln -s $c /srv/$v; fi; done; done
sha256sum -c -s /root/sums
d=$(wc -l </srv/db/seq) l=$(wc -l </srv/log/seq); echo "db $d, log $l"; test $((d - l)) -ge 0 -a $((d - l)) -le 1
rm /srv/db /srv/log; umbra delete all`)
	if after := array.Sh("%s", devices); after != before {
		t.Errorf("devices were\n%s\nand are\n%s", before, after)
	}
	// Of the pool's blocks (128 sectors) none is in use that is not an original's.
	if n := array.Sh(`dmsetup status | awk '$4=="thin" {n += $5/128} $4=="thin-pool" {split($7, p, "/"); used = p[1]} END {print used-n}'`); n != "0" {
		t.Errorf("%s blocks are not given back", n)
	}

	// Killed with the LUNs suspended. The hosts wait, and go on.
	array.Sh("kill -9 $(pidof umbra)")
	dying := serve("UMBRA_FAILPOINTS=array.thin.suspended=kill")
	create := a.Start("create", "umbra create /srv/db /srv/log --transportable --document /root/no.umbra")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if code, err := dying.Wait(ctx); err != nil || code == 0 {
		t.Fatalf("the array was not killed: %d, %v\n%s", code, err, create.Log())
	}
	suspended := "dmsetup info -c --noheadings -o suspended,name | grep ^Suspended || true"
	if got := array.Sh("%s", suspended); strings.Count(got, "umbra-") != 2 {
		t.Errorf("suspended: %q", got)
	}
	serve("")
	if got := array.Sh("%s", suspended); got != "" {
		t.Errorf("suspended after a start: %s", got)
	}
	if code, err := create.Wait(ctx); err != nil || code == 0 {
		t.Errorf("created by an array that died: %d, %v", code, err)
	}
	a.Sh("date >/srv/db/after && sync && cd /srv && sha256sum -c -s /root/sums")
	if after := array.Sh("%s", devices); after != before {
		t.Errorf("devices were\n%s\nand are\n%s", before, after)
	}

	// Full up to the watermark: refused, by code, and the filesystem lives on.
	array.Sh(`umbra array lun create big --size 256M >/root/big
n=$(cat /root/big) && dd if=/dev/urandom of=/dev/$(dmsetup info -c --noheadings -o blkdevname $(dmsetup ls | grep $n | cut -f1)) bs=1M count=%d oflag=direct 2>/dev/null`, (free()-(20<<20))>>20)
	full := array.Sh("%s", devices)
	if r := a.Fails("umbra create /srv/db /srv/log --transportable --document /root/no.umbra"); !strings.Contains(r.Stderr, "VSS_E_INSUFFICIENT_STORAGE") || !strings.Contains(r.Stderr, "remedy") {
		t.Error(r.Stderr)
	}
	if r := array.Fails("umbra array lun create more --size 4M"); !strings.Contains(r.Stderr, "VSS_E_INSUFFICIENT_STORAGE") {
		t.Error(r.Stderr)
	}
	if got := array.Sh("umbra array info"); !strings.Contains(got, "Attention") || !strings.Contains(got, "watermark") {
		t.Error(got)
	}
	if now := array.Sh("%s; umbra array sets | grep -c '^{' || true", devices); now != full+"\n0" {
		t.Errorf("left by what was refused: %s", now)
	}
	a.Sh("date >/srv/log/full && sync && cd /srv && sha256sum -c -s /root/sums; dmesg | grep -E 'I/O error|EXT4-fs error' && exit 1 || true")
	// Enlarged, with a filesystem mounted that is written to: there is room again.
	load = a.Start("load2", "while :; do date >>/srv/db/seq; sync /srv/db/seq; done")
	array.Sh("lvm lvextend -q -L +256M san/umbra-data && kill $(pidof umbra) && while pidof umbra >/dev/null; do sleep 0.05; done")
	serve("")
	if got := array.Sh("umbra array info"); strings.Contains(got, "watermark") {
		t.Errorf("an enlarged pool:\n%s", got)
	}
	load.Stop()
	a.Sh("dmesg | grep -E 'I/O error|EXT4-fs error' && exit 1 || true")
	t.Log(a.Sh("umbra create /srv/db --transportable --document /root/again.umbra"))

	// A host on the array's own machine has the pool's devices below loop devices.
	array.Sh("umbra array enroll array --bundle /root/here.bundle")
	array.Start("daemon", "umbra daemon").WaitFor("ready")
	array.Sh(`umbra join /root/here.bundle; n=$(umbra array lun create here --size 64M); umbra array unmask here array; umbra rescan
d=$(ls -d /sys/block/loop*/loop | cut -d/ -f4) && mkfs.ext4 -q /dev/$d && mkdir -p /srv/here && mount /dev/$d /srv/here && echo hello >/srv/here/greeting
umbra create /srv/here && echo changed >/srv/here/greeting && sync && grep -q hello /run/umbra/copies/*/greeting && umbra delete all
umount /srv/here && umbra detach $n && umbra array lun delete here`)
	if left := array.Sh("losetup -a"); left != "" {
		t.Errorf("loop devices are left: %s", left)
	}
}
