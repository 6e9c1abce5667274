package block

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func message(fields ...string) []byte { return []byte(strings.Join(fields, "\x00") + "\x00") }

func TestParseUevent(t *testing.T) {
	for name, c := range map[string]struct {
		msg  []byte
		want Event
		ok   bool
	}{
		"loop attach": {
			message("change@/devices/virtual/block/loop3", "ACTION=change", "DEVPATH=/devices/virtual/block/loop3", "SUBSYSTEM=block",
				"MAJOR=7", "MINOR=3", "DEVNAME=loop3", "DEVTYPE=disk", "DISKSEQ=42", "SEQNUM=9"),
			Event{Action: "change", Name: "loop3", Type: "disk", Major: 7, Minor: 3, DiskSeq: 42}, true},
		"partition": {
			message("add@/devices/x/block/sda/sda1", "ACTION=add", "SUBSYSTEM=block", "MAJOR=8", "MINOR=1", "DEVNAME=sda1", "DEVTYPE=partition"),
			Event{Action: "add", Name: "sda1", Type: "partition", Major: 8, Minor: 1}, true},
		"other subsystem": {message("add@/devices/x", "ACTION=add", "SUBSYSTEM=net", "MAJOR=8", "MINOR=1", "DEVNAME=x"), Event{}, false},
		"no number":       {message("add@/devices/x", "ACTION=add", "SUBSYSTEM=block", "DEVNAME=x"), Event{}, false},
		"bad number":      {message("add@/devices/x", "ACTION=add", "SUBSYSTEM=block", "DEVNAME=x", "MAJOR=-1", "MINOR=1"), Event{}, false},
		"from udev":       {append([]byte("libudev\x00"), message("ACTION=add", "SUBSYSTEM=block", "MAJOR=8", "MINOR=1", "DEVNAME=x")...), Event{}, false},
		"empty":           {nil, Event{}, false},
	} {
		got, ok := parseUevent(c.msg)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add(message("change@/devices/virtual/block/loop3", "ACTION=change", "SUBSYSTEM=block", "MAJOR=7", "MINOR=3", "DEVNAME=loop3", "DISKSEQ=42"))
	f.Add([]byte("libudev\x00\xfe\xed"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseUevent(b); ok && (e.Name == "" || e.Action == "" || e.Again) {
			t.Errorf("half an event: %+v", e)
		}
	})
}

func FuzzInotifyRecords(f *testing.F) {
	rec := make([]byte, 32)
	binary.NativeEndian.PutUint32(rec[4:], unix.IN_CREATE)
	binary.NativeEndian.PutUint32(rec[12:], 16)
	copy(rec[16:], "loop0")
	f.Add(rec)
	f.Add(rec[:20])
	f.Fuzz(func(t *testing.T, b []byte) { concernsBlock("/nonexistent", b) })
}

// fake is a watcher over a pipe whose every byte is read by read.
func fake(t *testing.T, read func(n int) ([]Event, error)) (*Watcher, func()) {
	t.Helper()
	p := make([]int, 2)
	if err := unix.Pipe2(p, unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[1]) })
	w := &Watcher{fd: p[0]}
	w.read = func(buf []byte) ([]Event, error) {
		n, err := unix.Read(p[0], buf[:1])
		if err != nil {
			return nil, err
		}
		return read(n)
	}
	if err := w.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w, func() {
		if _, err := unix.Write(p[1], []byte{0}); err != nil {
			t.Error(err)
		}
	}
}

func TestOverflowOfTheKernelMeansAgain(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	w, poke := fake(t, func(int) ([]Event, error) { return nil, unix.ENOBUFS })
	defer w.Close()
	poke()
	if e := next(t, w); !e.Again {
		t.Errorf("got %+v", e)
	}
}

func TestSlowReceiverIsToldToLookAgain(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	burst := make([]Event, queue+10)
	for i := range burst {
		burst[i] = Event{Action: "change", Name: "x", DiskSeq: uint64(i)}
	}
	w, poke := fake(t, func(int) ([]Event, error) { return burst, nil })
	defer w.Close()
	poke()
	for len(w.Events()) < queue { // full
		time.Sleep(time.Millisecond)
	}
	for i := range queue {
		if e := next(t, w); e.DiskSeq != uint64(i) || e.Again {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
	if e := next(t, w); !e.Again {
		t.Errorf("after the hole: %+v", e)
	}
}

func next(t *testing.T, w *Watcher) Event {
	t.Helper()
	select {
	case e, ok := <-w.Events():
		if !ok {
			t.Fatal("the watcher ended")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
	}
	return Event{}
}

func TestFolderWatch(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	w, err := watchFolder(dir)
	if err == nil {
		err = w.start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	// A plain file is nobody's device.
	if err := os.WriteFile(filepath.Join(dir, "tty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if n := len(w.Events()); n != 0 {
		t.Errorf("%d events for a plain file", n)
	}
	if err := os.Remove(filepath.Join(dir, "tty")); err != nil {
		t.Fatal(err)
	}
	if e := next(t, w); !e.Again {
		t.Errorf("got %+v", e)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	for range w.Events() { // must be closed
	}
}
