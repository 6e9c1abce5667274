package underway

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestDoIsLate: nobody waits for what does not come back, it stays on the list
// until it does, and what it brings then is not lost.
func TestDoIsLate(t *testing.T) {
	hang, dropped := make(chan struct{}), make(chan int, 1)
	begin := time.Now()
	_, err := Do(t.Context(), 50*time.Millisecond, Wait{Kind: Mount, What: "umount", Object: "/mnt/x"}, func() (int, error) { <-hang; return 7, nil }, func(n int) { dropped <- n })
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if l := (Late{}); !errors.As(err, &l) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "umount of /mnt/x has not come back after ") {
		t.Errorf("%v", err)
	}
	if ws := Waits(); len(ws) != 1 || ws[0].Object != "/mnt/x" {
		t.Errorf("while it hangs: %+v", ws)
	}
	close(hang)
	if n := <-dropped; n != 7 {
		t.Errorf("%d was dropped", n)
	}
	if ws := Waits(); len(ws) != 0 {
		t.Errorf("when it came back: %+v", ws)
	}
	if v, err := Do(t.Context(), time.Minute, Wait{}, func() (int, error) { return 1, nil }, nil); v != 1 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

func TestRun(t *testing.T) {
	out, errs, err := Run(t.Context(), time.Minute, nil, "sh", "-c", "echo out; echo err >&2; exit 3")
	var x *exec.ExitError
	if out != "out\n" || errs != "err\n" || !errors.As(err, &x) || x.ExitCode() != 3 {
		t.Errorf("%q, %q, %v", out, errs, err)
	}
	begin := time.Now()
	_, _, err = Run(t.Context(), 100*time.Millisecond, nil, "sleep", "60")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "sleep 60 has not come back") || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, _, err = Run(ctx, time.Minute, nil, "sleep", "60"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if ws := Waits(); len(ws) != 0 {
		t.Errorf("%+v", ws)
	}
}
