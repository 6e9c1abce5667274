package story

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/test/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Run(m)) }

// prepared has files in a folder of the test's own.
func prepared(t *testing.T) (files string) {
	t.Helper()
	if os.Getenv(lab.Env) != "1" {
		t.Skipf("virtual machines are started only with %s=1 (make lab)", lab.Env)
	}
	files, err := os.MkdirTemp("", "s-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(files) })
	t.Setenv("TMPDIR", files)
	return files
}

// nothing checks that no file and no process is left.
func nothing(t *testing.T, files string) {
	t.Helper()
	if left, err := os.ReadDir(files); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range all {
		b, _ := os.ReadFile(f)
		_, rest, _ := strings.Cut(string(b), ") ")
		if field := strings.Fields(rest); len(field) > 1 && field[1] == fmt.Sprint(os.Getpid()) {
			t.Errorf("a process is left: %s", b)
		}
	}
}

// TestSmoke: from create on one machine to import on another, over real iSCSI,
// as make demo tells it.
func TestSmoke(t *testing.T) {
	files := prepared(t)
	var out strings.Builder
	if err := Run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Log(out.String())
	for _, says := range []string{"one instant across both volumes", "shared with its original", "no machine, process or file is left", "Done in"} {
		if !strings.Contains(out.String(), says) {
			t.Errorf("it does not say %q", says)
		}
	}
	nothing(t, files)
}

// interrupter ends a story when it comes to a point.
type interrupter struct {
	strings.Builder
	at  string
	end func()
}

func (i *interrupter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), i.at) {
		i.end()
	}
	return i.Builder.Write(b)
}

// TestInterrupted: nothing is left, whenever somebody has had enough.
func TestInterrupted(t *testing.T) {
	files := prepared(t)
	for at, later := range map[string]time.Duration{"An array,": 1500 * time.Millisecond /* it boots */, "each has a kernel": 0} {
		ctx, end := context.WithCancel(t.Context())
		out := interrupter{at: at, end: func() { time.AfterFunc(later, end) }}
		if err := Run(ctx, &out); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("%s: %v\n%s", at, err, out.String())
		}
		end()
		nothing(t, files)
	}
}
