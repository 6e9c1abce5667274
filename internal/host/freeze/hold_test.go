package freeze_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/vss"
)

func wantCode(t *testing.T, err error, code vss.HResult, parts ...string) {
	t.Helper()
	var e *vss.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	if e.Op == "" || e.Object == "" || e.Reason == "" || e.Remedy == "" {
		t.Errorf("incomplete error %#v", e)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}

func TestParallelHold(t *testing.T) {
	vs := []*volume{newVolume(t, "ext4"), newVolume(t, "ext4"), newVolume(t, "xfs"), newVolume(t, "btrfs")}
	for _, v := range vs {
		v.write(t, 1<<20)
	}
	fss := open(t, vs...)
	for _, f := range fss {
		if err := f.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	g := startGuard(t, fss, freeze.Options{})
	for _, f := range fss { // the guard has its own
		f.Close()
	}
	mustFreeze(t, g)
	time.Sleep(300 * time.Millisecond) // background writers of all kinds stay quiet
	r := g.Thaw()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	if r.ByDaemon || len(r.Filesystems) != 4 {
		t.Errorf("report %+v", r)
	}
	for _, f := range r.Filesystems {
		if f.Err != nil || !(f.FreezeBegin < f.FreezeEnd && f.FreezeEnd < f.ThawBegin && f.ThawBegin < f.ThawEnd) {
			t.Errorf("%+v", f)
		}
		t.Logf("%s: freeze %v, held %v, thaw %v", f.Name, f.FreezeEnd-f.FreezeBegin, f.ThawBegin-f.FreezeEnd, f.ThawEnd-f.ThawBegin)
	}
	if !(r.FirstFreeze < r.LastFreeze && r.LastFreeze < r.FirstThaw && r.FirstThaw < r.LastThaw) {
		t.Errorf("times out of order: %+v", r)
	}
	if again := g.Thaw(); again.FirstThaw != r.FirstThaw || again.Err != nil {
		t.Errorf("a second Thaw reports something else: %+v", again)
	}
	for _, v := range vs {
		if v.wasFrozen() {
			t.Errorf("%s was still frozen", v.mount)
		}
		v.write(t, 4096)
	}
	wantCode(t, g.Freeze(context.Background()), vss.VSS_E_BAD_STATE)
}

func TestForeignThawIsReported(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		a, b := newVolume(t, "ext4"), newVolume(t, fsType)
		g := startGuard(t, open(t, a, b), freeze.Options{})
		mustFreeze(t, g)
		run(t, "fsfreeze", "-u", b.mount)
		r := g.Thaw()
		wantCode(t, r.Err, vss.VSS_E_HOLD_WRITES_TIMEOUT, b.mount, "thawed by somebody else")
		if strings.Contains(r.Err.Error(), a.mount) {
			t.Errorf("blames the wrong filesystem: %v", r.Err)
		}
		if r.Filesystems[1].ThawErrno != unix.EINVAL || r.Filesystems[0].ThawErrno != 0 {
			t.Errorf("errnos: %+v", r.Filesystems)
		}
	})
}

func TestForeignThawWriteFreezeIsReported(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		v := newVolume(t, fsType)
		g := startGuard(t, open(t, v), freeze.Options{})
		mustFreeze(t, g)
		if errno := v.thaw(); errno != 0 {
			t.Fatal(errno)
		}
		v.write(t, 64<<10)
		if errno := v.freeze(); errno != 0 {
			t.Fatal(errno)
		}
		r := g.Thaw()
		wantCode(t, r.Err, vss.VSS_E_HOLD_WRITES_TIMEOUT, "written to during the hold")
		if r.Filesystems[0].SectorsWritten == 0 || r.Filesystems[0].ThawErrno != 0 {
			t.Errorf("%+v", r.Filesystems[0])
		}
	})
}

func TestForeignFreezeIsRefusedAndKept(t *testing.T) {
	a, b := newVolume(t, "ext4"), newVolume(t, "ext4")
	g := startGuard(t, open(t, a, b), freeze.Options{})
	if errno := b.freeze(); errno != 0 {
		t.Fatal(errno)
	}
	err := g.Freeze(context.Background())
	wantCode(t, err, vss.VSS_E_VOLUME_IN_USE, b.mount, "frozen by somebody else")
	if a.wasFrozen() {
		t.Error("the other filesystem was left frozen")
	}
	wantCode(t, g.Thaw().Err, vss.VSS_E_VOLUME_IN_USE)
	g.Close()
	if !b.wasFrozen() {
		t.Error("the foreign freeze was thawed")
	}
}

func TestLimit(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{Limit: 300 * time.Millisecond})
	mustFreeze(t, g)
	select {
	case <-g.Lost():
	case <-time.After(time.Second):
		t.Fatal("the limit passed unnoticed")
	}
	if v.wasFrozen() {
		t.Error("still frozen after the limit")
	}
	r := g.Thaw()
	wantCode(t, r.Err, vss.VSS_E_HOLD_WRITES_TIMEOUT, "hold window exceeded (300ms)")
	if held := r.LastThaw - r.FirstFreeze; held < 290*time.Millisecond || held > 450*time.Millisecond {
		t.Errorf("held for %v", held)
	}
}

func TestKilledGuardIsThawedByTheDaemon(t *testing.T) {
	vs := oneOfEach(t)
	g := startGuard(t, open(t, vs...), freeze.Options{})
	mustFreeze(t, g)
	begin := freeze.Now()
	if err := unix.Kill(g.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-g.Lost()
	r := g.Thaw()
	wantCode(t, r.Err, vss.VSS_E_HOLD_WRITES_TIMEOUT, "the guard died")
	if !r.ByDaemon || r.LastThaw-begin > 100*time.Millisecond {
		t.Errorf("thawed after %v, by daemon %v", r.LastThaw-begin, r.ByDaemon)
	}
	t.Logf("thawed %v after the kill", r.LastThaw-begin)
	for i, v := range vs {
		if r.Filesystems[i].ThawErrno != 0 {
			t.Errorf("%+v", r.Filesystems[i])
		}
		if v.wasFrozen() {
			t.Errorf("%s left frozen", v.mount)
		}
	}
	g.Close()
	if freeze.Quarantined(vs[0].target(t).Dev) {
		t.Error("still in quarantine after the guard is gone")
	}
}

func TestGuardKilledBeforeFreeze(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{})
	if err := unix.Kill(g.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantCode(t, g.Freeze(context.Background()), vss.VSS_E_UNEXPECTED, "died")
	if v.wasFrozen() {
		t.Error("frozen")
	}
}

func TestPoliteSignalsDoNotEndAHold(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{})
	mustFreeze(t, g)
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1} {
		if err := unix.Kill(g.PID(), s); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if r := g.Thaw(); r.Err != nil || r.ByDaemon {
		t.Errorf("%+v", r)
	}
}

func TestStoppedGuardDoesNotDelayTheRelease(t *testing.T) {
	vs := oneOfEach(t)
	g := startGuard(t, open(t, vs...), freeze.Options{})
	mustFreeze(t, g)
	if err := unix.Kill(g.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	r := g.Thaw()
	if took := time.Since(begin); took > 400*time.Millisecond {
		t.Errorf("the release took %v", took)
	}
	if !r.ByDaemon {
		t.Error("not thawed by the daemon")
	}
	// The hold itself was whole: every FITHAW said so and no sector moved.
	if r.Err != nil {
		t.Error(r.Err)
	}
	for _, v := range vs {
		if v.wasFrozen() {
			t.Errorf("%s left frozen", v.mount)
		}
	}
}

func TestStoppedGuardDoesNotOutlastTheLimit(t *testing.T) {
	vs := oneOfEach(t)
	g := startGuard(t, open(t, vs...), freeze.Options{Limit: 200 * time.Millisecond})
	mustFreeze(t, g)
	if err := unix.Kill(g.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.Lost():
	case <-time.After(time.Second):
		t.Fatal("nobody kept the limit")
	}
	eventually(t, 500*time.Millisecond, "thawed", func() bool { return g.Thaw().LastThaw != 0 })
	for _, v := range vs {
		if v.wasFrozen() {
			t.Errorf("%s left frozen", v.mount)
		}
	}
	wantCode(t, g.Thaw().Err, vss.VSS_E_HOLD_WRITES_TIMEOUT, "hold window exceeded")
}

func TestLazyUnmountDuringHold(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		v := newVolume(t, fsType)
		g := startGuard(t, open(t, v), freeze.Options{})
		mustFreeze(t, g)
		if err := unix.Unmount(v.mount, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		if r := g.Thaw(); r.Err != nil {
			t.Error(r.Err)
		}
		if v.wasFrozen() {
			t.Error("left frozen")
		}
	})
}

func TestWrongFilesystemIsRefused(t *testing.T) {
	v, other := newVolume(t, "ext4"), newVolume(t, "ext4")
	want := v.target(t)

	covered := want
	if err := unix.Mount(other.mount, v.mount, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	_, err := freeze.Open(covered)
	if uerr := unix.Unmount(v.mount, 0); uerr != nil {
		t.Fatal(uerr)
	}
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND, "another filesystem is there now")

	sub := want
	sub.Path = filepath.Join(v.mount, "lost+found")
	_, err = freeze.Open(sub)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND, "inode")

	otherMount := want
	otherMount.MountID = 1 << 30
	_, err = freeze.Open(otherMount)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND, "another mount")
	for _, mask := range []int{unix.STATX_MNT_ID, unix.STATX_MNT_ID_UNIQUE} {
		var stx unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, v.mount, 0, mask, &stx); err != nil {
			t.Fatal(err)
		}
		right := want
		right.MountID = stx.Mnt_id
		f, err := freeze.Open(right)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}

	gone := want
	gone.Path += "/nothing"
	_, err = freeze.Open(gone)
	wantCode(t, err, vss.VSS_E_OBJECT_NOT_FOUND)
	_, err = freeze.Open(freeze.Target{Path: v.mount})
	wantCode(t, err, vss.E_INVALIDARG)
}

func TestUnfreezableFilesystem(t *testing.T) {
	needRoot(t)
	v := newVolume(t, "ext4")
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	tmpfs := freeze.Target{Path: dir, Dev: uint64(st.Dev), Ino: st.Ino}
	_, err := freeze.Open(tmpfs)
	wantCode(t, err, vss.VSS_E_VOLUME_NOT_SUPPORTED, "no block device")
	tmpfs.Devices = v.target(t).Devices
	f, err := freeze.Open(tmpfs)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := startGuard(t, append(open(t, v), f), freeze.Options{})
	wantCode(t, g.Freeze(context.Background()), vss.VSS_E_VOLUME_NOT_SUPPORTED, dir)
	if v.wasFrozen() {
		t.Error("the other filesystem was left frozen")
	}
}

func TestOneSuperblockIsHeldOnce(t *testing.T) {
	v := newVolume(t, "btrfs")
	sub := filepath.Join(v.mount, "sub")
	run(t, "btrfs", "subvolume", "create", sub)
	tsub := v.target(t)
	var st unix.Stat_t
	if err := unix.Stat(sub, &st); err != nil {
		t.Fatal(err)
	}
	tsub.Name, tsub.Path, tsub.Dev, tsub.Ino = "sub", sub, uint64(st.Dev), st.Ino
	f, err := freeze.Open(tsub)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := startGuard(t, append(open(t, v), f), freeze.Options{})
	mustFreeze(t, g)
	r := g.Thaw()
	if r.Err != nil || len(r.Filesystems) != 2 || r.Filesystems[0].ThawBegin != r.Filesystems[1].ThawBegin {
		t.Errorf("%+v", r)
	}
	if r.Filesystems[1].Name != "sub" {
		t.Errorf("names: %+v", r.Filesystems)
	}
}

func TestDescriptorsSurviveTheCollector(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{})
	stop := make(chan struct{})
	churned := make(chan struct{})
	go func() {
		defer close(churned)
		for {
			select {
			case <-stop:
				return
			default:
				if f, err := os.Open("/dev/null"); err == nil && len(f.Name()) > 100 {
					f.Close()
				}
				runtime.GC()
			}
		}
	}()
	mustFreeze(t, g)
	time.Sleep(100 * time.Millisecond)
	r := g.Thaw()
	close(stop)
	<-churned
	if r.Err != nil {
		t.Error(r.Err)
	}
}

func TestFreezeHonoursContext(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantCode(t, g.Freeze(ctx), vss.VSS_E_FLUSH_WRITES_TIMEOUT)
	wantCode(t, v.open(t).Sync(ctx), vss.VSS_E_FLUSH_WRITES_TIMEOUT)
	wantCode(t, g.Thaw().Err, vss.VSS_E_BAD_STATE)
	mustFreeze(t, g) // nothing was used up
	if r := g.Thaw(); r.Err != nil {
		t.Error(r.Err)
	}
}

func TestCloseThaws(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{})
	mustFreeze(t, g)
	g.Close()
	if v.wasFrozen() {
		t.Error("left frozen")
	}
	if unix.Kill(g.PID(), 0) != unix.ESRCH {
		t.Error("the guard is still there")
	}
}

func TestNoGuardProgram(t *testing.T) {
	v := newVolume(t, "ext4")
	_, err := freeze.StartGuard(context.Background(), open(t, v), freeze.Options{Binary: []byte{}})
	wantCode(t, err, vss.E_NOTIMPL, "built without")
	_, err = freeze.StartGuard(context.Background(), open(t, v), freeze.Options{Binary: []byte("#!/bin/false\n")})
	if err == nil {
		t.Error("a program that is no guard was accepted")
	}
	_, err = freeze.StartGuard(context.Background(), nil, freeze.Options{Binary: []byte("x")})
	wantCode(t, err, vss.E_INVALIDARG)
}

func TestStoppedGuardCannotBlockFreeze(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{Limit: 100 * time.Millisecond})
	if err := unix.Kill(g.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	wantCode(t, g.Freeze(context.Background()), vss.VSS_E_FLUSH_WRITES_TIMEOUT)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("returned after %v", took)
	}
	if v.wasFrozen() {
		t.Error("left frozen")
	}
}

func TestStoppedGuardCannotBlockStart(t *testing.T) {
	v := newVolume(t, "ext4")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	sleeper, err := os.ReadFile("/bin/sleep") // says nothing, like a stopped one
	if err != nil {
		t.Skip("no program at hand that does nothing")
	}
	begin := time.Now()
	_, err = freeze.StartGuard(ctx, open(t, v), freeze.Options{Binary: sleeper})
	if err == nil || time.Since(begin) > time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestThawWhileFreezing(t *testing.T) {
	for range 10 {
		v := newVolume(t, "ext4")
		g := startGuard(t, open(t, v), freeze.Options{})
		done := make(chan error, 1)
		go func() { done <- g.Freeze(context.Background()) }()
		time.Sleep(time.Millisecond)
		r := g.Thaw()
		err := <-done
		if v.wasFrozen() {
			t.Fatalf("left frozen; freeze %v, thaw %v", err, r.Err)
		}
		g.Close()
	}
}
