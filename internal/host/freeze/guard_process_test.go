package freeze_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/host/freeze"
)

func proc(t *testing.T, pid int, file string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// status reads a field of /proc/PID/status in KiB.
func status(t *testing.T, pid int, field string) int {
	t.Helper()
	for line := range strings.Lines(proc(t, pid, "status")) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s", field)
	return 0
}

func TestGuardProcess(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{})
	privileged := hasSysResource(t)
	if got := proc(t, g.PID(), "oom_score_adj"); got != "-1000" && privileged {
		t.Errorf("oom_score_adj %s", got)
	}
	if status(t, g.PID(), "VmLck") == 0 {
		t.Error("its memory is not locked")
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", g.PID())); err != nil || !strings.HasPrefix(exe, "/memfd:") {
		t.Errorf("it runs from %s, %v", exe, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", g.PID())); err != nil || cwd != "/" {
		t.Errorf("it pins %s, %v", cwd, err)
	}
	// It holds nothing of this process but what it was given.
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if len(fds) > 20 {
		t.Errorf("%d descriptors", len(fds))
	}
	// PF_MEMALLOC_NOIO: PR_SET_IO_FLUSHER came through, to every thread.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", g.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		flags, err := strconv.ParseUint(strings.Fields(rest)[6], 10, 64)
		if err != nil || flags&0x00080000 == 0 && privileged {
			t.Errorf("%s: flags %x, %v", task, flags, err)
		}
	}
}

// hasSysResource: containers and sandboxes often lack the capability for the
// score and the flag; the guard then does without.
func hasSysResource(t *testing.T) bool {
	t.Helper()
	var caps uint64
	for line := range strings.Lines(proc(t, os.Getpid(), "status")) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, _ = strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
		}
	}
	const capSysResource = 24
	if caps>>capSysResource&1 == 0 {
		t.Log("without CAP_SYS_RESOURCE: score and flag are not checked")
		return false
	}
	return true
}

func TestGuardHasItsOwnCgroup(t *testing.T) {
	v := newVolume(t, "ext4")
	g := startGuard(t, open(t, v), freeze.Options{})
	cgroup := func(pid string) string {
		b, _ := os.ReadFile("/proc/" + pid + "/cgroup")
		for line := range strings.Lines(string(b)) {
			if path, ok := strings.CutPrefix(line, "0::"); ok {
				return strings.TrimSpace(path)
			}
		}
		return ""
	}
	mine, its := cgroup("self"), cgroup(strconv.Itoa(g.PID()))
	if its == "" || mine == its {
		t.Skip("no writable version 2 cgroup tree here")
	}
	if !strings.HasPrefix(its, "/umbra-freeze-guard/") {
		t.Errorf("guard in %s", its)
	}
	g.Close()
	mounts, err := filepath.Glob("/sys/fs/cgroup/*" + its)
	if err != nil || len(mounts) != 0 {
		t.Errorf("left behind: %v, %v", mounts, err)
	}
}

func TestGuardStaysSmall(t *testing.T) {
	needRoot(t)
	if testing.Short() {
		t.Skip("mounts 64 filesystems")
	}
	dir := t.TempDir()
	var vs []*volume
	for i := range 64 {
		sub := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		vs = append(vs, newVolumeIn(t, "ext4", sub, 1<<20))
	}
	g := startGuard(t, open(t, vs...), freeze.Options{})
	ready := status(t, g.PID(), "VmRSS")
	mustFreeze(t, g)
	holding, threads := status(t, g.PID(), "VmRSS"), status(t, g.PID(), "Threads")
	r := g.Thaw()
	if r.Err != nil {
		t.Error(r.Err)
	}
	peak := status(t, g.PID(), "VmHWM")
	t.Logf("resident: ready %d KiB, holding %d KiB, peak %d KiB, %d threads; freeze %v, thaw %v",
		ready, holding, peak, threads, r.LastFreeze-r.FirstFreeze, r.LastThaw-r.FirstThaw)
	if peak >= 10<<10 {
		t.Errorf("peak of %d KiB resident", peak)
	}
}
