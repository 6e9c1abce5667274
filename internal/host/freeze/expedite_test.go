package freeze_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/freeze/freezetest"
)

const expeditedPath = "/sys/kernel/rcu_expedited"

func expedited(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile(expeditedPath)
	if err != nil {
		t.Skip("this kernel does not expedite grace periods on demand")
	}
	return strings.TrimSpace(string(b)) == "1"
}

// off waits a moment: another hold on this machine may use the switch, too.
func off(t *testing.T) bool {
	t.Helper()
	for range 100 {
		if !expedited(t) {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// A hold leaves the switch as it found it, and the intent says whether it was
// touched, so that recovery puts it back after a crash.
func TestExpedite(t *testing.T) {
	needRoot(t)
	if !off(t) {
		t.Skip("grace periods are expedited already: another hold, or the administrator")
	}
	v := newVolume(t, "ext4")
	fss := open(t, v)
	intent := freeze.NewIntent("{expedite}", fss)
	g, err := freeze.StartGuard(context.Background(), fss, freeze.Options{Binary: freezetest.Build(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Freeze(context.Background()); err != nil {
		t.Fatal(err)
	}
	during := !off(t)
	if r := g.Thaw(); r.Err != nil {
		t.Error(r.Err)
	}
	if during {
		t.Error("grace periods are still expedited after all was frozen")
	}
	if !intent.Expedites {
		t.Error("the intent does not say that grace periods will be expedited")
	}

	// A daemon that died while freezing.
	dir := t.TempDir()
	if _, err := freeze.WriteIntent(dir, intent); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(expeditedPath, []byte("0"), 0) })
	if err := os.WriteFile(expeditedPath, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := freeze.RecoverIntents(context.Background(), dir, nil); err != nil {
		t.Fatal(err)
	}
	if !off(t) {
		t.Error("recovery left grace periods expedited")
	}
}
