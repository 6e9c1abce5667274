package block_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/attach/loop/looptest"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/vss"
)

const mib = 1 << 20

func TestInspect(t *testing.T) {
	h := looptest.NewHost(t)
	path := looptest.File(t, 2*mib)
	dev := h.Attach(t, path, false)
	link := filepath.Join(t.TempDir(), "by-id")
	if err := os.Symlink(dev.Path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dev.Name, dev.Path, link, fmt.Sprintf("%d:%d", dev.Major, dev.Minor)} {
		got, err := block.Inspect(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Path != dev.Path || got.DiskSeq != dev.DiskSeq || got.Size != 2*mib || got.Loop == nil || got.Loop.BackingFile != path {
			t.Errorf("%s: %+v, loop %+v", name, got, got.Loop)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || dev.Loop.Dev != st.Dev || dev.Loop.Ino != st.Ino {
		t.Errorf("backing file is %d:%d, stat says %d:%d, %v", dev.Loop.Dev, dev.Loop.Ino, st.Dev, st.Ino, err)
	}
	for name, code := range map[string]vss.HResult{
		"": vss.E_INVALIDARG, path: vss.E_INVALIDARG, "/dev/null": vss.E_INVALIDARG, "nosuchdisk": vss.VSS_E_OBJECT_NOT_FOUND,
		"/dev/nosuchdisk": vss.VSS_E_OBJECT_NOT_FOUND, "4095:1": vss.VSS_E_OBJECT_NOT_FOUND, "../etc": vss.VSS_E_OBJECT_NOT_FOUND,
	} {
		if _, err := block.Inspect(t.Context(), name); !errors.Is(err, code) {
			t.Errorf("%q: %v, want %v", name, err, code)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := block.Inspect(ctx, dev.Name); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestEnumerateLeavesOutOtherHosts(t *testing.T) {
	mine, other := looptest.NewHost(t), looptest.NewHost(t)
	a := mine.Attach(t, looptest.File(t, mib), false)
	b := other.Attach(t, looptest.File(t, mib), false)
	has := func(tag string, dev block.Device) bool {
		all, err := block.Enumerate(t.Context(), tag)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(all, func(d block.Device) bool { return d.Name == dev.Name && d.DiskSeq == dev.DiskSeq })
	}
	if !has(mine.Tag, a) || has(mine.Tag, b) || !has(other.Tag, b) || has(other.Tag, a) || !has("", a) || !has("", b) {
		t.Error("a host sees another host's LUNs, or not its own")
	}
}

func TestVerifyAndReplacement(t *testing.T) {
	h := looptest.NewHost(t)
	path := looptest.File(t, mib)
	dev := h.Attach(t, path, false)
	if err := block.Verify(dev); err != nil {
		t.Fatal(err)
	}
	stale := dev
	stale.DiskSeq--
	if err := block.Verify(stale); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("older attachment: %v", err)
	}
	if err := block.SetReadOnly(t.Context(), stale, true); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("SetReadOnly of a stale device: %v", err)
	}
	if now, err := block.Inspect(t.Context(), dev.Name); err != nil || now.ReadOnly {
		t.Errorf("the flag was set on the replacement: %v, %v", now.ReadOnly, err)
	}
	moved := dev
	moved.Minor++
	if err := block.Verify(moved); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("other number: %v", err)
	}
	if err := h.Initiator.Detach(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	// The very same file at the very same place is still another attachment.
	again := h.Attach(t, path, false)
	if again.DiskSeq == dev.DiskSeq {
		t.Error("a sequence number was used twice")
	}
	if err := block.Verify(dev); !errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
		t.Errorf("after detaching: %v", err)
	}
}

func TestSetReadOnly(t *testing.T) {
	h := looptest.NewHost(t)
	dev := h.Attach(t, looptest.File(t, mib), false)
	for _, ro := range []bool{true, true, false} {
		if err := block.SetReadOnly(t.Context(), dev, ro); err != nil {
			t.Fatal(err)
		}
		if now, err := block.Inspect(t.Context(), dev.Name); err != nil || now.ReadOnly != ro {
			t.Errorf("read-only is %v, want %v; %v", now.ReadOnly, ro, err)
		}
	}
}

func TestWatchSeesAnAttach(t *testing.T) {
	h := looptest.NewHost(t)
	w, err := block.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dev := h.Attach(t, looptest.File(t, mib), false)
	deadline := time.After(10 * time.Second)
	for {
		select {
		case e := <-w.Events():
			// Others on the machine attach devices as well.
			if e.Name != dev.Name || e.DiskSeq != dev.DiskSeq {
				continue
			}
			if e.Action != "change" || e.Major != dev.Major || e.Minor != dev.Minor || e.Type != "disk" {
				t.Errorf("event %+v", e)
			}
			return
		case <-deadline:
			t.Fatal("the attach was not seen")
		}
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	looptest.NeedRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := block.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range w.Events() {
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
