package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// doctor asks what is wrong on a host, and asserts that the exit code says
// whether anything is.
func (f *fixture) doctor(h *site.Host, args ...string) (d requester.Diagnosis) {
	f.Helper()
	begin := time.Now()
	out, err := h.Umbra(f.ctx, append([]string{"doctor", "--output", "json", "--timeout", "1s", "--state-dir", h.StateDir(), "--array-socket", f.site.ArraySocket()}, args...)...)
	if took := time.Since(begin); took > 6*time.Second {
		f.Errorf("the doctor took %s", took)
	}
	var ce *site.CommandError
	_ = errors.As(err, &ce)
	if jerr := json.Unmarshal([]byte(out), &d); jerr != nil {
		f.Fatalf("%v, %v: %s", err, jerr, out)
	}
	if ce == nil && len(d.Findings) > 0 || ce != nil && (ce.Code != 1 || len(d.Findings) == 0) {
		f.Errorf("%d findings, and %v", len(d.Findings), err)
	}
	for _, x := range d.Findings {
		if x.Name == "" || x.Severity == "" || x.What == "" || x.Why == "" || x.Help == "" {
			f.Errorf("a finding that does not say everything: %+v", x)
		}
	}
	return d
}

// finds asserts that there is a finding of the name that mentions all words, and
// returns it.
func (f *fixture) finds(d requester.Diagnosis, name string, words ...string) (found requester.Finding) {
	f.Helper()
	for _, x := range d.Findings {
		all := strings.Join([]string{x.Object, x.Who, x.What, x.Help}, " ")
		missing := x.Name != name
		for _, w := range words {
			missing = missing || !strings.Contains(all, w)
		}
		if !missing {
			return x
		}
	}
	f.Errorf("no %s with %q in %+v", name, words, d.Findings)
	return found
}

// soon asks the doctor until there is a finding of the name.
func (f *fixture) soon(h *site.Host, name string, words ...string) requester.Finding {
	f.Helper()
	var d requester.Diagnosis
	for deadline := time.Now().Add(12 * time.Second); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
		d = f.doctor(h)
		for _, x := range d.Findings {
			if x.Name == name {
				return f.finds(d, name, words...)
			}
		}
	}
	return f.finds(d, name, words...)
}

// nothing asserts that the doctor finds nothing, soon.
func (f *fixture) healthy(h *site.Host) {
	f.Helper()
	var d requester.Diagnosis
	eventually(f, "nothing is found", 10*time.Second, func() bool { d = f.doctor(h); return len(d.Findings) == 0 })
}

// helps runs a finding's command on a host.
func (f *fixture) helps(h *site.Host, x requester.Finding) {
	f.Helper()
	if _, err := h.Run(f.ctx, "sh", "-c", x.Help); err != nil {
		f.Errorf("%s: %v", x.Help, err)
	}
}

// TestDoctor: who is stuck is named while it is, with the command that helps, and
// that command helps.
func TestDoctor(t *testing.T) {
	f := newFixtureOn(t, "xfs")
	mount, _, _ := f.volume("v", "ext4")
	f.put(mount, "hello", "world")
	f.run("healthy", func(f *fixture) {
		f.healthy(f.a)
		out, err := f.a.Umbra(f.ctx, "doctor", "--array-socket", f.site.ArraySocket())
		if err != nil || out != "Nothing is stuck, lost or left.\n" {
			f.Errorf("%q, %v", out, err)
		}
	})
	f.run("a stopped daemon", func(f *fixture) {
		pid := f.a.DaemonPID()
		f.stop(pid)
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
		f.helps(f.a, f.finds(f.doctor(f.a), "daemon.stopped", f.a.Socket(), fmt.Sprintf("kill -CONT %d", pid)))
		f.healthy(f.a)
	})
	f.run("a stopped array", func(f *fixture) {
		pid := f.site.ArrayPID()
		f.stop(pid)
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
		d := f.doctor(f.a, "--timeout", "3s")
		f.finds(d, "array.unreachable", "array demo", "10.77.0.1:7480")
		x := f.finds(d, "array.stopped", fmt.Sprintf("kill -CONT %d", pid))
		f.helps(f.a, x)
		f.healthy(f.a)
	})
	f.run("an array that stops in the hold", func(f *fixture) {
		th := f.thawer(mount)
		h := f.hold("300ms", nil, mount)
		pid := f.site.ArrayPID()
		f.stop(pid)
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
		f.soon(f.a, "array.waiting", "CommitSet has not come back", "array demo, set {")
		f.helps(f.a, f.finds(f.doctor(f.a), "array.stopped"))
		err := <-h.done
		if th.frozen(f) {
			f.Error("it is frozen")
		}
		if err != nil { // it came back in time, or not
			f.fails(err, 1, vss.CodeOf(errorOf(f, err)))
		}
		f.restart()
	})
	f.run("a stopped guard", func(f *fixture) {
		h := f.hold("2s", nil, mount)
		f.stop(h.guard)
		x := f.finds(f.doctor(f.a), "guard.stopped", fmt.Sprintf("kill -CONT %d", h.guard))
		f.helps(f.a, x)
		<-h.done
		f.restart()
	})
	f.run("daemon and guard dead", func(f *fixture) {
		th := f.thawer(mount)
		h := f.hold("20s", nil, mount)
		f.stop(f.a.DaemonPID()) // it would thaw
		f.stop(h.guard)
		d := f.doctor(f.a)
		f.finds(d, "daemon.stopped")
		f.finds(d, "guard.stopped")
		f.must(syscall.Kill(h.guard, syscall.SIGKILL))
		f.a.KillDaemon()
		<-h.done
		eventually(f, "the guard is gone", 5*time.Second, func() bool { return syscall.Kill(h.guard, 0) != nil })
		d = f.doctor(f.a)
		f.finds(d, "daemon.ended", "systemctl restart umbra")
		x := f.finds(d, "hold.left", mount, "umbra thaw-intents --state-dir "+f.a.StateDir())
		if x.Since.IsZero() || time.Since(x.Since) > time.Minute {
			f.Errorf("since %s", x.Since)
		}
		x.Help = strings.Replace(x.Help, "umbra", binary, 1)
		f.helps(f.a, x)
		if th.frozen(f) {
			f.Error("what the doctor said did not thaw it")
		}
		f.must(f.a.StartDaemon(f.ctx, nil))
		f.healthy(f.a)
	})
	f.run("a freeze that is stuck", func(f *fixture) { f.stuckFreeze(mount) })
	f.run("a broken import", func(f *fixture) {
		set := f.create("app-rollback", mount)
		f.armOn(f.b, "import.after-locate=kill")
		_, _ = f.importOn(f.b, set.doc)
		f.finds(f.doctor(f.b), "daemon.ended")
		f.finds(f.doctor(f.b), "import.broken", set.SetID.String(), "umbra cleanup "+set.SetID.String())
		f.must(f.b.StartDaemon(f.ctx, nil))
		d := f.doctor(f.b)
		f.finds(d, "lun.orphaned", "naa.")
		x := f.finds(d, "import.broken", set.SetID.String())
		x.Help = strings.Replace(x.Help, "umbra", binary+" --socket "+f.b.Socket(), 1)
		f.helps(f.b, x)
		f.healthy(f.b)
		f.lostExposure(set)
	})
}

// restart gives A a daemon without failpoints.
func (f *fixture) restart() {
	f.Helper()
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, nil))
}

func errorOf(f *fixture, err error) error {
	f.Helper()
	c := f.complaints(err, 1)[0]
	f.mentions(c, "demo")
	return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Reason: c.Reason}
}

// stuckFreeze freezes the array's store under a volume that is being frozen.
func (f *fixture) stuckFreeze(mount string) {
	here := filepath.Join(f.site.Dir, "before")
	f.a.StopDaemon()
	f.must(f.a.StartDaemon(f.ctx, []string{"UMBRA_FAILPOINTS=create.before-hold=touch(" + here + ")+sleep(700ms)"}, "--hold-limit", "3s"))
	store, err := unix.Open(f.site.ArrayPath(f.site.ArrayDir()), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	f.must(err)
	defer unix.Close(store)
	thaw := func() { _ = unix.IoctlSetInt(store, fithaw, 0) }
	f.Cleanup(thaw)
	defer thaw()
	th := f.thawer(mount)
	done := make(chan error, 1)
	go func() { _, err := f.tryCreate("app-rollback", mount); done <- err }()
	eventually(f, "the flush is over", 20*time.Second, exists(here))
	f.put(mount, "dirty", strings.Repeat("x", 1<<20))
	f.must(unix.IoctlSetInt(store, fifreeze, 0))
	x := f.soon(f.a, "hold.stuck", mount, "FIFREEZE", "thread ")
	if x.Since.IsZero() || time.Since(x.Since) > 30*time.Second || time.Since(x.Since) < time.Second {
		f.Errorf("since %s", x.Since)
	}
	f.finds(f.doctor(f.a), "guard.stuck", mount, "FIFREEZE")
	time.Sleep(time.Until(x.Since.Add(3500 * time.Millisecond))) // past the limit
	thaw()
	f.fails(<-done, 1, vss.VSS_E_FLUSH_WRITES_TIMEOUT)
	eventually(f, "it is released", 10*time.Second, func() bool { return len(f.doctor(f.a).Findings) == 0 })
	if th.frozen(f) {
		f.Error("it is frozen")
	}
	f.restart()
}

// lostExposure: something that hangs lies over an exposed copy, and then the copy
// is not where it should be.
func (f *fixture) lostExposure(set createdSet) {
	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	id, at := im.Copies[0].SnapshotID.String(), filepath.Join(f.site.Dir, "exposed")
	f.must(os.MkdirAll(f.b.Path(at), 0o755))
	_, err = f.b.Umbra(f.ctx, "expose", id, at)
	f.must(err)
	over := f.hangingMount(f.b, at)
	done := make(chan error, 1)
	go func() { _, err := f.as(f.b, "unexpose", id); done <- err }()
	x := f.soon(f.b, "mount.stuck", at, "has not come back from the kernel", "umount -l "+at)
	f.helps(f.b, x)
	over.Close() // its server's end
	f.mentions(f.refused(<-done, vss.VSS_E_UNEXPECTED), at)
	_, err = f.b.Umbra(f.ctx, "unexpose", id)
	f.must(err)
	_, err = f.b.Umbra(f.ctx, "expose", id, at)
	f.must(err)
	_, err = f.b.Run(f.ctx, "umount", at)
	f.must(err)
	x = f.finds(f.doctor(f.b), "exposure.lost", at, id)
	x.Help = strings.ReplaceAll(x.Help, "umbra ", binary+" --socket "+f.b.Socket()+" ")
	f.helps(f.b, x)
	f.healthy(f.b)
}

// hangingMount mounts a filesystem on a host whose server never answers; closing
// the descriptor is the server's end.
func (f *fixture) hangingMount(h *site.Host, at string) *os.File {
	f.Helper()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		f.Skip("this machine has no FUSE: ", err)
	}
	f.Cleanup(func() { fuse.Close() })
	// By a process of its own: a thread of ours in the host's namespace could
	// keep that from going.
	cmd := exec.Command("nsenter", "--mount", "--target", strconv.Itoa(h.DaemonPID()), "--",
		"mount", "-i", "-t", "fuse", "-o", "fd=3,rootmode=40000,user_id=0,group_id=0", "hangs", at)
	cmd.ExtraFiles = []*os.File{fuse}
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Fatalf("%v: %s", err, out)
	}
	return fuse
}
