package freeze_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/vss"
)

// TestLook: who is stuck in FIFREEZE, since when and on what is known while it is
// stuck: to the daemon, to who looks at the daemon from outside, and from /proc.
func TestLook(t *testing.T) {
	outer, inner := nested(t, "ext4")
	fss := open(t, inner)
	g := startGuard(t, fss, freeze.Options{})
	inner.write(t, 1<<20)
	if errno := outer.freeze(); errno != 0 {
		t.Fatal(errno)
	}
	before := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	wantCode(t, g.Freeze(ctx), vss.VSS_E_FLUSH_WRITES_TIMEOUT, inner.mount)

	mine := func(hs []freeze.Hold) (freeze.HoldOf, bool) {
		for _, h := range hs {
			for _, f := range h.Filesystems {
				if f.Stuck() {
					return f, true
				}
			}
		}
		return freeze.HoldOf{}, false
	}
	f, ok := mine(freeze.Holds())
	if !ok || f.Path != inner.mount || f.State != "freezing" || f.Since.Before(before.Add(-time.Second)) || time.Since(f.Since) < 250*time.Millisecond {
		t.Errorf("the daemon knows %+v", f)
	}
	hs, err := freeze.LookIn(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	named := make([]freeze.Hold, len(hs))
	for i, h := range hs {
		named[i] = h.Named(freeze.NewIntent(vss.NewID().String(), fss))
	}
	if f, ok = mine(named); !ok || f.Path != inner.mount || f.State != "freezing" || time.Since(f.Since) < 250*time.Millisecond || time.Since(f.Since) > time.Minute {
		t.Errorf("from outside: %+v", f)
	}
	threads := freeze.InKernel(g.PID())
	if len(threads) != 1 || threads[0].Call != "FIFREEZE" || threads[0].Path != inner.mount {
		t.Errorf("/proc: %+v", threads)
	}
	if errno := outer.thaw(); errno != 0 {
		t.Fatal(errno)
	}
	eventually(t, 5*time.Second, "nothing is stuck", func() bool { _, stuck := mine(freeze.Holds()); return !stuck })
	g.Close()
	eventually(t, 5*time.Second, "the guard is forgotten", func() bool {
		for _, h := range freeze.Holds() {
			if h.Guard == g.PID() {
				return false
			}
		}
		return true
	})
}

// TestLateThawIsNotADeath: a guard whose thaw takes longer than Thaw waits is told
// to end by Close; nobody says afterwards that it died.
func TestLateThawIsNotADeath(t *testing.T) {
	outer, inner := nested(t, "ext4")
	var log lockedBuffer
	fss := open(t, inner)
	g := startGuard(t, fss, freeze.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err := g.Freeze(context.Background()); err != nil {
		t.Fatal(err)
	}
	if errno := outer.freeze(); errno != 0 {
		t.Fatal(errno)
	}
	r := g.Thaw()
	if r.Err == nil && r.Released {
		t.Skip("this kernel thaws the inner filesystem without its outer one")
	}
	wantCode(t, r.Err, vss.VSS_E_HOLD_WRITES_TIMEOUT, inner.mount)
	if !strings.Contains(vss.AsError("", r.Err).Reason, "could not be thawed yet") {
		t.Errorf("%v", r.Err)
	}
	done := make(chan struct{})
	go func() { g.Close(); close(done) }()
	time.Sleep(100 * time.Millisecond)
	if errno := outer.thaw(); errno != 0 {
		t.Fatal(errno)
	}
	<-done
	eventually(t, 5*time.Second, "out of quarantine", func() bool { return !freeze.Quarantined(inner.target(t).Dev) })
	eventually(t, 5*time.Second, "the guard is gone", func() bool { return unix.Kill(g.PID(), 0) != nil })
	eventually(t, 5*time.Second, "the log says why", func() bool { return strings.Contains(log.String(), "had not come back from the kernel") })
	if strings.Contains(log.String(), "died") {
		t.Error(log.String())
	}
	if inner.wasFrozen() {
		t.Error("it was left frozen")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
