package outlive

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

	"golang.org/x/sys/unix"
)

func sleeper(t *testing.T) (Process, string) {
	t.Helper()
	dir := t.TempDir()
	p, err := Start(Program{Args: []string{"sh", "-c", "sleep 60 & exec sleep 60"}, Dir: dir, Log: filepath.Join(dir, "log"), Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.End(context.Background(), 0) })
	return p, dir
}

// TestKept: what was started is found by its record, has a session of its own and
// its limit, and ends with all it started.
func TestKept(t *testing.T) {
	p, dir := sleeper(t)
	if !p.Alive() || Kept(dir) != p {
		t.Fatalf("started %+v, kept %+v", p, Kept(dir))
	}
	if sid, err := unix.Getsid(p.PID); err != nil || sid != p.PID {
		t.Errorf("session %d, %v", sid, err)
	}
	var lim unix.Rlimit
	if err := unix.Prlimit(p.PID, unix.RLIMIT_DATA, nil, &lim); err != nil || lim.Max != 64<<20 {
		t.Errorf("limit %+v, %v", lim, err)
	}
	if err := p.End(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if p.Alive() || p.End(t.Context(), 0) != nil {
		t.Error("it does not end")
	}
	for deadline := time.Now().Add(5 * time.Second); unix.Kill(-p.PID, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what it started lives")
		}
	}
}

// TestAnothersNumber: a process that has the number but did not start then, or in
// another boot, is neither taken for ours nor ended.
func TestAnothersNumber(t *testing.T) {
	p, _ := sleeper(t)
	later, elsewhere := p, p
	later.Started++
	elsewhere.Boot = "00000000-0000-0000-0000-000000000000"
	for what, q := range map[string]Process{"another start": later, "another boot": elsewhere, "none": {}, "init": {PID: 1, Boot: p.Boot}} {
		if q.Alive() {
			t.Errorf("%s counts as alive", what)
		}
		if err := q.End(t.Context(), 0); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !p.Alive() {
		t.Error("a process that was another's was ended")
	}
	if os.Getpid() == p.PID || Kept(t.TempDir()) != (Process{}) {
		t.Error("an empty folder has a record")
	}
}

// TestOrphan: a program that is to be ended with whoever started it outlives it
// all the same, and still ends by its record.
func TestOrphan(t *testing.T) {
	const variable = "OUTLIVE_STARTER"
	if dir := os.Getenv(variable); dir != "" {
		_, err := Start(Program{Args: []string{"setpriv", "--pdeathsig", "TERM", "sh", "-c", "echo up; read -r x; sleep 60"}, Dir: dir, Log: filepath.Join(dir, "log"), Memory: 64 << 20, Orphan: true})
		if err != nil {
			t.Fatal(err)
		}
		for said(dir) == "" { // now the kernel has been asked
			time.Sleep(time.Millisecond)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	dir := t.TempDir()
	starter := exec.Command(os.Args[0], "-test.run=^TestOrphan$", "-test.timeout=10s")
	starter.Env = append(os.Environ(), variable+"="+dir)
	out, _ := starter.CombinedOutput()
	p := Kept(dir)
	t.Cleanup(func() { _ = p.End(context.Background(), 0) })
	if said(dir) != "up\n" {
		t.Fatalf("it was not started: %s%s", out, said(dir))
	}
	time.Sleep(100 * time.Millisecond) // a signal would be there by now
	var lim unix.Rlimit
	inner := childOf(p.PID)
	if !p.Alive() || inner == 0 {
		t.Fatalf("it ended with its starter: %+v", p)
	}
	if err := unix.Prlimit(inner, unix.RLIMIT_DATA, nil, &lim); err != nil || lim.Max != 64<<20 {
		t.Errorf("limit %+v, %v", lim, err)
	}
	if err := p.End(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); unix.Kill(-p.PID, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what the shell started lives")
		}
	}
}

func said(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "log"))
	return string(b)
}

func childOf(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}
