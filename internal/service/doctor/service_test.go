package doctor

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// service is one that knows what a test says.
type service struct {
	operations []Operation
	waits      []underway.Wait
	holds      []freeze.Hold
	providers  []Provider
	arrays     []Array
	hang       bool // Arrays does not come back
}

func (s service) Operations() []Operation { return s.operations }
func (s service) Waits() []underway.Wait  { return s.waits }
func (s service) Holds() []freeze.Hold    { return s.holds }
func (s service) Providers() []Provider   { return s.providers }
func (s service) Arrays(ctx context.Context) []Array {
	if s.hang {
		select {}
	}
	return s.arrays
}

// one asserts that there is exactly one finding, and that it mentions all words.
func one(t *testing.T, fs []Finding, name string, words ...string) Finding {
	t.Helper()
	if len(fs) != 1 || fs[0].Name != name {
		t.Fatalf("want one %s, have %+v", name, fs)
	}
	f := fs[0]
	all := strings.Join([]string{f.Object, f.Who, f.What, f.Help}, "|")
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("%q is not in %q", w, all)
		}
	}
	if f.Object == "" || f.What == "" || f.Why == "" || f.Help == "" || f.Severity == "" {
		t.Errorf("it does not say everything: %+v", f)
	}
	return f
}

func ago(d time.Duration) time.Time { return time.Now().Add(-d) }

func TestOperations(t *testing.T) {
	session, set := vss.NewID(), vss.NewID()
	op := Operation{Op: "DoSnapshotSet", Session: session, Set: set, PID: 4711, Client: "umbra create", Phase: "end-prepare", Begun: ago(time.Hour), Since: ago(10 * time.Second)}
	if fs := ExamineService(t.Context(), service{operations: []Operation{op}}); len(fs) != 0 {
		t.Errorf("one that moves on: %+v", fs)
	}
	op.Since = ago(31 * time.Second)
	f := one(t, ExamineService(t.Context(), service{operations: []Operation{op}}), "operation.slow",
		"DoSnapshotSet of set "+set.String(), session.String(), "umbra create (pid 4711)", "phase end-prepare", "kill -INT 4711")
	if !f.Since.Equal(op.Since) {
		t.Errorf("since %s", f.Since)
	}
	op.Phase, op.Since = "hold", ago(3*time.Second)
	one(t, ExamineService(t.Context(), service{operations: []Operation{op}}), "operation.slow", "phase hold")
	op.Ended = ago(time.Minute)
	if fs := ExamineService(t.Context(), service{operations: []Operation{op}}); len(fs) != 0 {
		t.Errorf("one that ended just now: %+v", fs)
	}
	op.Ended = ago(11 * time.Minute)
	one(t, ExamineService(t.Context(), service{operations: []Operation{op}}), "async.unreleased", "DoSnapshotSet", session.String(), "kill 4711")
}

// TestWaits: each kind of wait has its finding, after its time and not before.
func TestWaits(t *testing.T) {
	set, session := vss.NewID(), vss.NewID()
	for _, tt := range []struct {
		wait  underway.Wait
		long  time.Duration
		name  string
		words []string
	}{
		{underway.Wait{Kind: underway.Provider, What: "EndPrepareSnapshots", Who: "sample", Object: "set " + set.String()}, 3 * time.Second, "provider.waiting",
			[]string{"provider sample, set " + set.String(), "EndPrepareSnapshots has not come back", "restart the provider's own service"}},
		{underway.Wait{Kind: underway.Array, What: "CommitSet", Who: "demo"}, 3 * time.Second, "array.waiting", []string{"array demo", "CommitSet", "umbra list arrays"}},
		{underway.Wait{Kind: underway.Program, What: "exportfs -r"}, 6 * time.Second, "program.slow", []string{"exportfs -r"}},
		{underway.Wait{Kind: underway.Mount, What: "umount", Object: "/mnt/x"}, 6 * time.Second, "mount.stuck", []string{"/mnt/x", "umount has not come back", "umount -l /mnt/x"}},
		{underway.Wait{Kind: underway.Device, What: "reading the superblock", Object: "/dev/loop7"}, 6 * time.Second, "device.stuck", []string{"/dev/loop7", "dmesg | grep -w loop7"}},
		{underway.Wait{Kind: underway.Request, What: "ExposeSnapshot", PID: 99999999}, 31 * time.Second, "request.slow", []string{"ExposeSnapshot", "kill -INT 99999999"}},
	} {
		w := tt.wait
		w.Session, w.Since, w.Deadline = session, ago(time.Second), time.Now().Add(time.Minute)
		if fs := ExamineService(t.Context(), service{waits: []underway.Wait{w}}); len(fs) != 0 {
			t.Errorf("%s, too early: %+v", tt.name, fs)
		}
		w.Since = ago(tt.long)
		f := one(t, ExamineService(t.Context(), service{waits: []underway.Wait{w}}), tt.name, append(tt.words, session.String())...)
		if !f.Since.Equal(w.Since) || !f.Deadline.Equal(w.Deadline) {
			t.Errorf("%s: %s, %s", tt.name, f.Since, f.Deadline)
		}
		w.Deadline = ago(time.Millisecond)
		if f := one(t, ExamineService(t.Context(), service{waits: []underway.Wait{w}}), tt.name); f.Severity != Error {
			t.Errorf("%s hangs beyond its deadline and is a %s", tt.name, f.Severity)
		}
	}
}

// TestStoppedProgram: what helps a program that is stopped is another signal.
func TestStoppedProgram(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	pid := cmd.Process.Pid
	s := service{waits: []underway.Wait{{Kind: underway.Provider, What: "CommitSnapshots", Who: "sample", PID: pid, Since: ago(time.Minute)}}}
	one(t, ExamineService(t.Context(), s), "provider.waiting", fmt.Sprintf("pid %d", pid), fmt.Sprintf("kill %d", pid))
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if state, _ := stopped(pid); state != "" {
			break
		}
	}
	one(t, ExamineService(t.Context(), s), "provider.waiting", "it is stopped", fmt.Sprintf("kill -CONT %d", pid))
}

func TestHolds(t *testing.T) {
	hold := freeze.Hold{Guard: 99999999, Limit: 10 * time.Second, Began: ago(3 * time.Second), Filesystems: []freeze.HoldOf{{Path: "/srv/db", State: "frozen", Since: ago(3 * time.Second)}}}
	look := func() []Finding { return ExamineService(t.Context(), service{holds: []freeze.Hold{hold}}) }
	if fs := look(); len(fs) != 0 {
		t.Errorf("within its time: %+v", fs)
	}
	hold.Began = ago(11 * time.Second)
	one(t, look(), "hold.overdue", "/srv/db", "pid 99999999", "systemctl restart umbra")
	for state, call := range map[string]string{"freezing": "FIFREEZE", "thawing": "FITHAW"} {
		hold.Filesystems[0] = freeze.HoldOf{Path: "/srv/db", State: state, Since: ago(500 * time.Millisecond)}
		if fs := look(); len(fs) != 0 {
			t.Errorf("%s for a moment: %+v", state, fs)
		}
		hold.Filesystems[0].Since = ago(2 * time.Second)
		if f := one(t, look(), "hold.stuck", "/srv/db", call); !f.Since.Equal(hold.Filesystems[0].Since) || f.Severity != Error {
			t.Errorf("%+v", f)
		}
	}
}

func TestSystems(t *testing.T) {
	since := ago(time.Hour)
	s := service{arrays: []Array{{Name: "good"}, {Name: "demo", Endpoints: []string{"tcp://10.0.0.1:7480"}, Err: &vss.Error{Reason: "the array does not answer (Describe, after 4s)"}, Since: since}}}
	if f := one(t, ExamineService(t.Context(), s), "array.unreachable", "array demo", "tcp://10.0.0.1:7480", "after 4s"); !f.Since.Equal(since) {
		t.Errorf("%+v", f)
	}
	id := vss.NewID()
	s = service{providers: []Provider{{Name: "good"}, {Name: "sample", Program: "/usr/bin/sample", ID: id, Err: errors.New("exec format error"), Since: since}}}
	one(t, ExamineService(t.Context(), s), "provider.broken", "provider sample", "/usr/bin/sample", "exec format error", "umbra provider validate "+id.String())
}

// TestLateCheck: a check that hangs is a finding, and the others are heard.
func TestLateCheck(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s := service{hang: true, waits: []underway.Wait{{Kind: underway.Mount, What: "umount", Object: "/mnt", Since: ago(time.Minute)}}}
	begin := time.Now()
	fs := ExamineService(ctx, s)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(fs) != 2 || fs[0].Name != "mount.stuck" || fs[1].Name != "check.late" || fs[1].Object != "arrays" {
		t.Errorf("%+v", fs)
	}
}

// TestBadCheck: a defect of one check is a finding.
func TestBadCheck(t *testing.T) {
	fs := examine(t.Context(), 0, []check[int]{{"bad", func(context.Context, int) []Finding { panic("defect") }}, {"good", func(context.Context, int) []Finding { return nil }}})
	one(t, fs, "check.late", "bad", "defect")
}

func TestSort(t *testing.T) {
	fs := []Finding{{Name: "d", Severity: Warning, Since: ago(time.Hour)}, {Name: "c", Severity: Error}, {Name: "b", Severity: Error, Since: ago(time.Minute)}, {Name: "a", Severity: Error, Since: ago(time.Hour)}}
	Sort(fs)
	var order string
	for _, f := range fs {
		order += f.Name
	}
	if order != "abcd" {
		t.Error(order)
	}
	if got := Since(time.Time{}, time.Now()); got != "not known" {
		t.Error(got)
	}
	if got := Since(ago(90*time.Second), time.Now()); !strings.HasSuffix(got, " (1m30s)") {
		t.Error(got)
	}
}
