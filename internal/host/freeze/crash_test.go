package freeze_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/freeze/freezetest"
	"github.com/umbra-vss/umbra/vss"
)

// daemon is another process that holds these volumes.
type daemon struct {
	cmd   *exec.Cmd
	guard int
}

func startDaemon(t *testing.T, intents string, vs ...*volume) *daemon {
	t.Helper()
	d, lines := startFreezing(t, intents, vs...)
	if line, err := lines.ReadString('\n'); line != "holding\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	return d
}

// startFreezing returns before the child's Freeze does.
func startFreezing(t *testing.T, intents string, vs ...*volume) (*daemon, *bufio.Reader) {
	t.Helper()
	return startFreezingIn(t, intents, nil, vs...)
}

// startFreezingIn has other programs run the child's, which becomes their last
// argument.
func startFreezingIn(t *testing.T, intents string, in []string, vs ...*volume) (*daemon, *bufio.Reader) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "guard")
	if err := os.WriteFile(program, freezetest.Build(t), 0o700); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	for _, v := range vs {
		held = append(held, v.mount+"="+v.loop)
	}
	args := append(slices.Clone(in), exe)
	d := &daemon{cmd: exec.Command(args[0], args[1:]...)}
	d.cmd.Env = append(os.Environ(), childPaths+"="+strings.Join(held, "\n"), childIntent+"="+intents, childGuard+"="+program)
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		eventually(t, 5*time.Second, "the guard ends", func() bool { return d.guard == 0 || guardEnded(d.guard) })
		_, _ = freeze.RecoverIntents(context.Background(), t.TempDir(), nil) // as the next daemon would
	})
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if _, serr := fmt.Sscanf(line, "guard %d", &d.guard); serr != nil {
		t.Fatalf("child said %q, %v", line, err)
	}
	return d, lines
}

func TestDaemonDeath(t *testing.T) {
	vs := oneOfEach(t)
	d := startDaemon(t, "", vs...)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	thawsAndEnds(t, d, vs)
}

// thawsAndEnds: the daemon is dying. It is seen by the guard's end, not by
// asking, that it thawed: the question would be the answer.
func thawsAndEnds(t *testing.T, d *daemon, vs []*volume) {
	t.Helper()
	begin := time.Now()
	eventually(t, time.Second, "the guard thaws and ends", func() bool { return guardEnded(d.guard) })
	t.Logf("the guard ended after %v", time.Since(begin))
	for _, v := range vs {
		if v.wasFrozen() {
			t.Errorf("%s left frozen", v.mount)
		}
	}
}

func TestStoppedDaemon(t *testing.T) {
	vs := oneOfEach(t)
	t.Setenv(childLimit, "400ms")
	d := startDaemon(t, "", vs...)
	if err := d.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond)
	for _, v := range vs {
		if v.wasFrozen() {
			t.Errorf("the guard did not keep the limit on %s without its daemon", v.mount)
		}
	}
}

// guardEnded: an orphan may stay a zombie where nobody reaps.
func guardEnded(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

func killBoth(t *testing.T, d *daemon) {
	t.Helper()
	// Stopped first, so that neither can thaw for the other.
	for _, pid := range []int{d.guard, d.cmd.Process.Pid} {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	for _, pid := range []int{d.guard, d.cmd.Process.Pid} {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	_ = d.cmd.Wait()
	eventually(t, time.Second, "the guard ends", func() bool { return guardEnded(d.guard) })
}

func actions(rs []freeze.Recovered) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "%s ", r.Action)
	}
	return strings.TrimSpace(b.String())
}

func recoverIntents(t *testing.T, dir string) []freeze.Recovered {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	rs, err := freeze.RecoverIntents(ctx, dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestBothKilled(t *testing.T) {
	vs := oneOfEach(t)
	dir := t.TempDir()
	killBoth(t, startDaemon(t, dir, vs...))
	begin := time.Now()
	rs := recoverIntents(t, dir)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("recovery took %v", took)
	}
	if got := actions(rs); got != "thawed thawed thawed" {
		t.Errorf("%s: %+v", got, rs)
	}
	for _, v := range vs {
		if v.wasFrozen() {
			t.Errorf("%s left frozen", v.mount)
		}
	}
	if rs := recoverIntents(t, dir); len(rs) != 0 {
		t.Errorf("a second recovery found %+v", rs)
	}
}

func TestBothKilledAndUnmounted(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		v := newVolume(t, fsType)
		dir := t.TempDir()
		killBoth(t, startDaemon(t, dir, v))
		if err := unix.Unmount(v.mount, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		rs := recoverIntents(t, dir)
		if got := actions(rs); got != "thawed-remounted" {
			t.Errorf("%s: %+v", got, rs)
		}
		if v.wasFrozen() {
			t.Error("left frozen")
		}
	})
}

func TestRecoverMountedOver(t *testing.T) {
	onEach(t, func(t *testing.T, fsType string) {
		v, over := newVolume(t, fsType), newVolume(t, "ext4")
		dir := t.TempDir()
		killBoth(t, startDaemon(t, dir, v))
		if err := unix.Mount(over.mount, v.mount, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		rs := recoverIntents(t, dir)
		if err := unix.Unmount(v.mount, 0); err != nil {
			t.Fatal(err)
		}
		if got := actions(rs); got != "thawed-remounted" {
			t.Errorf("%s: %+v", got, rs)
		}
		if v.wasFrozen() {
			t.Error("left frozen")
		}
	})
}

func TestRecoverLeavesOthersAlone(t *testing.T) {
	v := newVolume(t, "ext4")
	held := v.open(t).Held()
	if held.Devices[0].DiskSeq == 0 || held.FSType != "ext4" || held.Source != v.loop {
		t.Fatalf("%+v", held)
	}
	write := func(dir string, change func(*freeze.HoldIntent)) {
		h := freeze.HoldIntent{SetID: "{set}", BootID: freeze.BootID(), Created: time.Now(),
			Filesystems: []freeze.HeldFilesystem{held}}
		h.Filesystems[0].Devices = append([]freeze.HeldDevice{}, held.Devices...)
		change(&h)
		if _, err := freeze.WriteIntent(dir, h); err != nil {
			t.Fatal(err)
		}
	}
	if errno := v.freeze(); errno != 0 {
		t.Fatal(errno)
	}
	for want, change := range map[string]func(*freeze.HoldIntent){
		"other-boot":  func(h *freeze.HoldIntent) { h.BootID = "another" },
		"device-gone": func(h *freeze.HoldIntent) { h.Filesystems[0].Devices[0].DiskSeq++ },
	} {
		dir := t.TempDir()
		write(dir, change)
		if got := actions(recoverIntents(t, dir)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if !v.wasFrozen() {
		t.Error("a freeze that was none of ours was thawed")
	}
	dir := t.TempDir()
	write(dir, func(*freeze.HoldIntent) {})
	if got := actions(recoverIntents(t, dir)); got != "not-frozen" {
		t.Errorf("got %s", got)
	}
}

func TestIntentFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "holds")
	remove, err := freeze.WriteIntent(dir, freeze.HoldIntent{SetID: "{a-b}", BootID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 || entries[0].Name() != "hold-a-b.json" {
		t.Errorf("%v", entries)
	}
	for range 2 {
		if err := remove(); err != nil {
			t.Error(err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	for _, bad := range []string{"", "{}", "../x", strings.Repeat("x", 300)} {
		_, err := freeze.WriteIntent(dir, freeze.HoldIntent{SetID: bad})
		if vss.CodeOf(err) != vss.E_INVALIDARG {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// What cannot be read is reported and kept.
	if err := os.WriteFile(filepath.Join(dir, "hold-broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	rs, err := freeze.RecoverIntents(context.Background(), dir, nil)
	if err == nil || len(rs) != 1 || rs[0].Action != freeze.RecoveryFailed {
		t.Errorf("%+v, %v", rs, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Error("an intent that was not understood was deleted")
	}
	if rs, err := freeze.RecoverIntents(context.Background(), filepath.Join(dir, "none"), nil); err != nil || rs != nil {
		t.Errorf("%+v, %v", rs, err)
	}
}
