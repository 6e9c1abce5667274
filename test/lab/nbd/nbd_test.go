package nbd_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/test/lab"
	"github.com/umbra-vss/umbra/test/lab/image"
)

func TestMain(m *testing.M) { os.Exit(lab.Run(m)) }

const (
	plugins = "usr/lib/x86_64-linux-gnu/nbdkit/"
	uuid    = "11111111-2222-3333-4444-555555555555"
)

// install puts the programs on the machines, and on the array's, which has a disk
// for them, the package's own tests.
func install(t *testing.T, array, a, b *lab.Machine) {
	t.Helper()
	server, err := image.Pack("usr/bin/qemu-storage-daemon")
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := image.Pack("usr/bin/nbdkit", plugins+"plugins/nbdkit-nbd-plugin.so", plugins+"plugins/nbdkit-memory-plugin.so", plugins+"plugins/nbdkit-pattern-plugin.so", plugins+"filters/nbdkit-retry-filter.so")
	if err != nil {
		t.Fatal(err)
	}
	tests := filepath.Join(t.TempDir(), "nbd.test")
	var g sync.WaitGroup
	put := func(m *lab.Machine, disk string, packs ...[]byte) {
		for _, p := range packs {
			if err := m.Install(t.Context(), p, disk); err != nil {
				t.Error(err)
			}
		}
	}
	g.Go(func() { put(a, "", proxy) })
	g.Go(func() { put(b, "", proxy) })
	g.Go(func() {
		put(array, "/store/programs", server, proxy)
		cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", tests, "github.com/umbra-vss/umbra/internal/host/attach/nbd")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
			return
		}
		program, err := os.ReadFile(tests)
		if err == nil {
			err = array.Push(t.Context(), program, "/store/nbd.test", 0o755)
		}
		if err != nil {
			t.Error(err)
		}
	})
	g.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// san is an array that exports over NBD.
type san struct {
	t     *testing.T
	l     *lab.Lab
	array *lab.Machine
}

func (s *san) serve(name string) *lab.Process {
	s.t.Helper()
	p := s.array.Start(name, "exec umbra array serve --dir /store/array --listen tcp://%[1]s:7480 --nbd-portal %[1]s:10809", s.array.Address())
	p.WaitFor("umbra: ready")
	return p
}

func (s *san) daemon(m *lab.Machine, name string) *lab.Process {
	s.t.Helper()
	as := ""
	if m.Name == "b" { // with what its unit leaves it, which is not enough to load modules
		as = "setpriv --bounding-set=-all,+sys_admin,+ipc_lock,+sys_resource,+sys_nice,+dac_read_search,+mknod,+sys_ptrace "
	}
	p := m.Start(name, "exec %sumbra daemon", as)
	p.WaitFor("ready")
	return p
}

// kill leaves what a program has started.
func (s *san) kill(ps ...*lab.Process) {
	s.t.Helper()
	for _, p := range ps {
		if err := p.Signal(syscall.SIGKILL); err != nil {
			s.t.Fatal(err)
		}
		if _, err := p.Wait(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *san) join(m *lab.Machine) *lab.Process {
	s.t.Helper()
	s.array.Sh("umbra array enroll %s --bundle /root/%[1]s.bundle", m.Name)
	s.carry(s.array, "/root/"+m.Name+".bundle", m)
	p := s.daemon(m, "daemon")
	m.Sh("umbra join /root/%s.bundle", m.Name)
	return p
}

func (s *san) carry(from *lab.Machine, file string, to *lab.Machine) {
	s.t.Helper()
	data, err := from.Pull(s.t.Context(), file)
	if err == nil {
		err = to.Push(s.t.Context(), data, file, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestKernelNBD is the way over NBD with the kernel's own client: made on a under
// load, imported on b, deleted. Daemons and array are killed under I/O, the
// network is cut and healed, and a host loses its right; no program notices but
// the last one. Beside it, on the array's machine, the tests of package attach/nbd: every byte
// under random writes, and all that Detach and Abandon promise.
func TestKernelNBD(t *testing.T) {
	l := lab.Start(t, lab.Machines{"array", "a", "b"})
	s := &san{t: t, l: l, array: l.Machine("array")}
	a, b := l.Machine("a"), l.Machine("b")
	s.array.Sh("modprobe xfs && mkfs.xfs -q /dev/vda && mkdir -p /store /var/tmp && mount -t xfs /dev/vda /store && mkdir /store/tmp && mount --bind /store/tmp /var/tmp")
	install(t, s.array, a, b)
	type ended struct {
		out string
		err error
	}
	contract := make(chan ended, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		r, err := s.array.Run(ctx, "/store/nbd.test -test.v -test.short 2>&1")
		contract <- ended{r.Stdout, err}
	}()

	serves := s.serve("serve")
	daemon := s.join(a)
	naa := s.array.Sh("umbra array lun create db --size 64M")
	s.array.Sh("umbra array unmask db a")
	a.Sh("umbra rescan")
	disk := a.Sh("grep -ls %s /sys/block/nbd*/backend | cut -d/ -f4", naa)
	if disk == "" {
		t.Fatalf("a has no disk of the kernel's NBD client:\n%s", a.Sh("ls /sys/block; cat /run/umbra/nbd/*/*/log || true"))
	}
	a.Sh("mkfs.ext4 -q -U %s /dev/%s && mkdir -p /srv/db && mount /dev/%[2]s /srv/db && head -c 3000000 /dev/urandom >/srv/db/1 && sync", uuid, disk)
	a.Sh("i=0; until test -e /dev/disk/by-uuid/%s; do i=$((i + 1)); test $i -lt 100; sleep 0.1; done", uuid)
	sum := a.Sh("sha256sum </srv/db/1")

	// Every record is on the array's disk before the next is written.
	load := a.Start("load", "n=0; until test -e /root/stop; do n=$((n + 1)); echo $n | dd of=/srv/db/records conv=notrunc,fsync oflag=append 2>/root/err || { cat /root/err; exit 1; }; echo $n >/root/written; done")
	goesOn := func(after string) {
		t.Helper()
		if _, err := a.Run(t.Context(), "from=$(cat /root/written); i=0; until test $(cat /root/written) -gt $((from + 3)); do i=$((i + 1)); test $i -lt 250; sleep 0.1; done"); err != nil {
			t.Fatalf("after %s nothing is written: %v", after, err)
		}
	}
	a.Sh("until test -s /root/written; do sleep 0.05; done")
	before := a.Sh("cat /sys/block/%s/diskseq; cat /run/umbra/nbd/*/naa.*/process.json", disk)
	s.kill(daemon, serves)
	goesOn("daemon and array were killed")
	l.CutNetwork("a", "array")
	time.Sleep(2 * time.Second)
	l.HealNetwork("a", "array")
	goesOn("the network was cut")
	serves = s.serve("serve2")
	s.daemon(a, "daemon2")
	a.Sh("umbra rescan")
	if now := a.Sh("cat /sys/block/%s/diskseq; cat /run/umbra/nbd/*/naa.*/process.json; ls -d /sys/block/nbd* | wc -l", disk); now != before+"1" {
		t.Errorf("the next daemon has not the same disk:\n%s\nbefore:\n%s", now, before)
	}
	a.Sh("umbra create /srv/db --transportable --document /root/set.umbra")
	goesOn("the set was made")
	a.Sh("touch /root/stop")
	if code, err := load.Wait(t.Context()); err != nil || code != 0 {
		t.Errorf("the load ended with %d: %s%v", code, load.Log(), err)
	}
	if log := a.Sh("dmesg | grep -e 'I/O error' -e 'nbd.*error' || true"); log != "" {
		t.Errorf("a's kernel says:\n%s", log)
	}
	s.carry(a, "/root/set.umbra", b)

	c := <-contract
	t.Logf("the package's tests:\n%s", c.out)
	for _, name := range []string{"TestRandomWrites", "TestReadOnly", "TestDaemonRestart", "TestDead", "TestAbandoned", "TestUnrecorded", "TestServerGone"} {
		if !strings.Contains(c.out, "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass", name)
		}
	}
	s.array.Sh("test -z \"$(ls -d /sys/block/nbd* 2>/dev/null)\"")

	// a is removed, and loses what it has.
	a.Sh("umount /srv/db")
	s.array.Sh("umbra array host remove a --force")
	lost := a.Start("lost", "begin=$(date +%%s); ! dd if=/dev/%s of=/dev/null bs=4096 skip=2000 count=1 iflag=direct 2>/dev/null; echo after $(($(date +%%s) - begin)) s", disk)

	b.Sh("modprobe nbd nbds_max=0")
	daemon = s.join(b)
	b.Sh("umbra import /root/set.umbra")
	read := "echo 3 >/proc/sys/vm/drop_caches; cat /run/umbra/copies/*/1 | sha256sum"
	if got := b.Sh(read); got != sum {
		t.Errorf("the copy reads otherwise: %s, was %s", got, sum)
	}
	b.Sh(`d=$(ls /sys/block | grep ^nbd); test $(blockdev --getro /dev/$d) = 1; blockdev --setrw /dev/$d || true
! dd if=/dev/zero of=/dev/$d bs=4096 seek=1000 count=1 oflag=direct 2>/root/err; grep -e 'not permitted' -e 'Read-only' /root/err
udevadm settle; udevadm info --query=property /dev/$d >/root/p; grep -q UMBRA_HIDDEN=1 /root/p; grep -q SYSTEMD_READY=0 /root/p; ! grep -q ID_FS_ /root/p`)
	b.Fails("test -e /dev/disk/by-uuid/%s", uuid)
	reads := b.Start("reads", "until test -e /root/stop; do dd if=/dev/$(ls /sys/block | grep ^nbd) of=/dev/null bs=64k count=20 iflag=direct 2>/dev/null; done")
	s.kill(daemon, serves)
	time.Sleep(500 * time.Millisecond)
	s.serve("serve3")
	s.daemon(b, "daemon2")
	b.Sh("touch /root/stop")
	if code, err := reads.Wait(t.Context()); err != nil || code != 0 {
		t.Errorf("reading while all was restarted: %d, %v", code, err)
	}
	if got := b.Sh(read); got != sum {
		t.Errorf("after the restarts the copy reads otherwise: %s, was %s", got, sum)
	}
	b.Sh("umbra delete all")
	if left := b.Sh("ls -d /sys/block/nbd* /run/umbra/nbd/*/naa.* 2>/dev/null || true; pidof nbdkit || true"); left != "" {
		t.Errorf("left on b: %s", left)
	}
	if code, err := lost.Wait(t.Context()); err != nil || code != 0 {
		t.Errorf("a host without a right reads on: %d, %s%v", code, lost.Log(), err)
	}
}
