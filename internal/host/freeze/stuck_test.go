package freeze_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/freeze/freezetest"
	"github.com/umbra-vss/umbra/vss"
)

// nested is a filesystem whose image lies on another one: while the outer one
// is frozen, freezing a dirty inner one blocks in the kernel, unkillably.
func nested(t *testing.T, fsType string) (outer, inner *volume) {
	t.Helper()
	needRoot(t)
	outer = newVolumeIn(t, "ext4", t.TempDir(), sizes[fsType]+112<<20)
	dir := filepath.Join(outer.mount, "inner")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	inner = newVolumeIn(t, fsType, dir, sizes[fsType])
	// Whatever happens, the outer one is thawed first.
	t.Cleanup(func() { outer.thaw() })
	return outer, inner
}

func TestStuckFreezeIsGivenUpAndThawedLater(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		outer, inner := nested(t, fsType)
		bystander := newVolume(t, "ext4")
		dev := inner.target(t).Dev
		fss := open(t, bystander, inner)
		g := startGuard(t, fss, freeze.Options{})
		inner.write(t, 1<<20)
		if errno := outer.freeze(); errno != 0 {
			t.Fatal(errno)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		begin := time.Now()
		err := g.Freeze(ctx)
		wantCode(t, err, vss.VSS_E_FLUSH_WRITES_TIMEOUT, inner.mount)
		if took := time.Since(begin); took > 1500*time.Millisecond {
			t.Errorf("Freeze returned after %v", took)
		}
		if bystander.wasFrozen() {
			t.Error("the other filesystem was left frozen")
		}
		if !freeze.Quarantined(dev) {
			t.Error("not in quarantine")
		}
		_, err = freeze.StartGuard(context.Background(), fss[1:], freeze.Options{Binary: freezetest.Build(t)})
		wantCode(t, err, vss.VSS_E_VOLUME_IN_USE, inner.mount)
		if errno := outer.thaw(); errno != 0 {
			t.Fatal(errno)
		}
		eventually(t, 5*time.Second, "out of quarantine", func() bool { return !freeze.Quarantined(dev) })
		if inner.wasFrozen() {
			t.Error("the freeze that came late was left")
		}
		g.Close()
	})
}

func TestKilledGuardWithAThreadInTheKernel(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		outer, inner := nested(t, fsType)
		held := newVolume(t, "ext4")
		dev := inner.target(t).Dev
		g := startGuard(t, open(t, held, inner), freeze.Options{})
		inner.write(t, 1<<20)
		if errno := outer.freeze(); errno != 0 {
			t.Fatal(errno)
		}
		failed := make(chan error, 1)
		go func() { failed <- g.Freeze(context.Background()) }()
		eventually(t, time.Second, "a thread is stuck", func() bool { return stuckThread(g.PID()) })
		time.Sleep(50 * time.Millisecond)
		// Neither hang-up nor pidfd says that it is dead now.
		if err := unix.Kill(g.PID(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err := <-failed
		t.Logf("noticed %v after the kill (and the wait for the stuck one)", time.Since(begin))
		wantCode(t, err, vss.VSS_E_UNEXPECTED, "the guard died")
		if held.wasFrozen() {
			t.Error("the daemon did not thaw")
		}
		if !freeze.Quarantined(dev) {
			t.Error("not in quarantine")
		}
		if r := g.Thaw(); r.Err == nil {
			t.Error("Thaw reports success")
		}
		if errno := outer.thaw(); errno != 0 {
			t.Fatal(errno)
		}
		eventually(t, 5*time.Second, "out of quarantine", func() bool { return !freeze.Quarantined(dev) })
		g.Close()
		if inner.wasFrozen() {
			t.Error("a freeze without an owner was left")
		}
	})
}

// stuckThread: some thread is in uninterruptible sleep.
func stuckThread(pid int) bool {
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for i := len(b) - 3; i >= 0; i-- {
			if b[i] == ')' {
				if b[i+2] == 'D' {
					return true
				}
				break
			}
		}
	}
	return false
}

func TestThawOfNestedFilesystems(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		// Sets like this are refused before they come here. If one slips through,
		// the thaw of the inner one waits for the outer one, and nothing hangs.
		outer, inner := nested(t, fsType)
		fss := open(t, inner, outer)
		for _, f := range fss {
			if err := f.Sync(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		g := startGuard(t, fss, freeze.Options{Limit: 2 * time.Second})
		err := g.Freeze(context.Background())
		begin := time.Now()
		r := g.Thaw()
		if took := time.Since(begin); took > 2500*time.Millisecond {
			t.Errorf("Thaw took %v", took)
		}
		t.Logf("freeze %v, thaw %v", err, r.Err)
		eventually(t, 5*time.Second, "out of quarantine", func() bool { return !freeze.Quarantined(inner.target(t).Dev) })
		g.Close()
		if inner.wasFrozen() || outer.wasFrozen() {
			t.Error("left frozen")
		}
	})
}

func TestDaemonDeathDuringFreeze(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		outer, inner := nested(t, fsType)
		held := newVolume(t, "ext4")
		inner.write(t, 1<<20)
		if errno := outer.freeze(); errno != 0 {
			t.Fatal(errno)
		}
		d, _ := startFreezing(t, "", held, inner)
		eventually(t, time.Second, "a thread is stuck", func() bool { return stuckThread(d.guard) })
		time.Sleep(50 * time.Millisecond)
		if err := d.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = d.cmd.Wait()
		time.Sleep(100 * time.Millisecond)
		if held.wasFrozen() {
			t.Error("the guard did not thaw what it could")
		}
		if guardEnded(d.guard) {
			t.Error("the guard left a thread's freeze behind")
		}
		if errno := outer.thaw(); errno != 0 {
			t.Fatal(errno)
		}
		eventually(t, 5*time.Second, "the guard ends", func() bool { return guardEnded(d.guard) })
		if inner.wasFrozen() {
			t.Error("the freeze that came late was left")
		}
	})
}

func TestRecoveryHonoursContext(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		outer, inner := nested(t, fsType)
		dir := t.TempDir()
		fss := open(t, inner)
		if _, err := freeze.WriteIntent(dir, freeze.NewIntent("set", fss)); err != nil {
			t.Fatal(err)
		}
		if err := fss[0].Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if errno := inner.freeze(); errno != 0 {
			t.Fatal(errno)
		}
		if errno := outer.freeze(); errno != 0 {
			t.Fatal(errno)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		begin := time.Now()
		rs, err := freeze.RecoverIntents(ctx, dir, nil)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("returned after %v", took)
		}
		if errno := outer.thaw(); errno != 0 {
			t.Fatal(errno)
		}
		if err == nil { // the kernel had nothing to write and did not wait
			if actions(rs) != "thawed" {
				t.Errorf("%+v", rs)
			}
			return
		}
		wantCode(t, err, vss.VSS_E_HOLD_WRITES_TIMEOUT)
		if got := actions(rs); got != "failed" {
			t.Errorf("%s", got)
		}
		// The intent is still there, and does its work the next time.
		eventually(t, 5*time.Second, "recovered", func() bool {
			rs, err := freeze.RecoverIntents(context.Background(), dir, nil)
			return err == nil && len(rs) == 1
		})
		if inner.wasFrozen() {
			t.Error("left frozen")
		}
	})
}
