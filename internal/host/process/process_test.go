package process

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestLook(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
	await := func(what string, is func(Process) bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if p, ok := Look(pid); ok && is(p) {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("not %s: %+v", what, p)
			}
		}
	}
	await("running", func(p Process) bool {
		return p.Command == "sleep 60" && p.Name == "sleep" && !p.Stopped() && p.Parent == os.Getpid() && p.Started.Sub(begin).Abs() < 5*time.Second
	})
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await("stopped", Process.Stopped)
	mine := All(func(p Process) bool { return p.Parent == os.Getpid() })
	if len(mine) == 0 {
		t.Error("no children")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await("dead", Process.Dead)
	_ = cmd.Wait()
	if p, ok := Look(pid); ok {
		t.Errorf("%+v", p)
	}
}

func TestListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := Listener(path); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := Listener(path); pid != os.Getpid() || err != nil { // which accepts nobody
		t.Error(pid, err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := Listener(path); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
}
