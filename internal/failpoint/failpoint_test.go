package failpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var (
	one = New("test.one")
	two = New("test.two")
)

func TestGrammar(t *testing.T) {
	for _, spec := range []string{"", " ; ", "test.one=error", "test.one=kill", "test.one=panic", "test.one=sleep(2s)", "test.one=3*sleep(1ms)+error", "test.one=error ; test.two=touch(/tmp/a=b)"} {
		disarm, err := Arm(spec)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
			continue
		}
		disarm()
	}
	for _, spec := range []string{"test.three=kill", "test.one", "=kill", "test.one=", "test.one=die", "test.one=0*kill", "test.one=x*kill", "test.one=sleep", "test.one=sleep()",
		"test.one=sleep(2)", "test.one=sleep(2s", "test.one=touch", "test.one=touch()", "test.one=kill()", "test.one=error(x)", "test.one=error+", "test.two=error;test.one=die"} {
		if _, err := Arm(spec); err == nil {
			t.Errorf("%q was accepted", spec)
		}
		if one.armed.Load() != nil || two.armed.Load() != nil {
			t.Fatalf("%q left something armed", spec)
		}
	}
	if n := Names(); !slices.IsSorted(n) || !slices.Contains(n, "test.one") {
		t.Errorf("names %v", n)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a name was registered twice")
			}
		}()
		New(one.Name())
	}()
}

func TestCount(t *testing.T) {
	disarm, err := Arm("test.one=3*error")
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 4; i++ {
		if err := one.Hit(t.Context()); errors.Is(err, ErrInjected) != (i >= 3) {
			t.Errorf("hit %d: %v", i, err)
		}
	}
	disarm()
	if err := one.Hit(t.Context()); err != nil {
		t.Errorf("disarmed: %v", err)
	}
}

func TestSequence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "here")
	disarm, err := Arm("test.one=touch(" + file + ")+sleep(2s)+error")
	if err != nil {
		t.Fatal(err)
	}
	defer disarm()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := one.Hit(t.Context()); !errors.Is(err, ErrInjected) || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := one.Hit(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("its context ended: %v", err)
		}
	})
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// BenchmarkOff is what a point costs that is not armed.
func BenchmarkOff(b *testing.B) {
	ctx := b.Context()
	for b.Loop() {
		_ = one.Hit(ctx)
	}
}
