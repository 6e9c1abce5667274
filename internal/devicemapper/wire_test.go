package devicemapper

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// TestTableEncoding holds the table to the kernel's structure, byte for byte.
func TestTableEncoding(t *testing.T) {
	got, err := encodeTable([]Target{{Length: 16, Type: "linear", Params: "8:0 2048"}, {Start: 16, Length: 8, Type: "zero"}})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := hex.DecodeString("" +
		"0000000000000000" + "1000000000000000" + "00000000" + "38000000" + hex.EncodeToString([]byte("linear")) + strings.Repeat("00", 10) +
		hex.EncodeToString([]byte("8:0 2048")) + strings.Repeat("00", 8) +
		"1000000000000000" + "0800000000000000" + "00000000" + "30000000" + hex.EncodeToString([]byte("zero")) + strings.Repeat("00", 12) +
		strings.Repeat("00", 8))
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestTableRefused(t *testing.T) {
	for name, targets := range map[string][]Target{
		"empty":     nil,
		"gap":       {{Length: 8, Type: "zero"}, {Start: 16, Length: 8, Type: "zero"}},
		"overlap":   {{Length: 8, Type: "zero"}, {Start: 4, Length: 8, Type: "zero"}},
		"nothing":   {{Type: "zero"}},
		"too long":  {{Length: 1 << 60, Type: "zero"}},
		"no type":   {{Length: 8}},
		"long type": {{Length: 8, Type: "a-kind-of-sixteen"}},
		"zero":      {{Length: 8, Type: "zero", Params: "a\x00b"}},
	} {
		if _, err := encodeTable(targets); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHeaderEncoding(t *testing.T) {
	b, err := request{ref: Name("umbra-x"), uuid: "UMBRA-x", flags: unix.DM_SUSPEND_FLAG, event: Alone.cookie(), targets: 2, data: []byte{1, 2, 3}, room: 8}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != headerSize+8 || headerSize != 312 {
		t.Fatalf("%d bytes", len(b))
	}
	var want [headerSize + 8]byte
	want[0], want[12], want[13], want[16], want[17], want[20], want[28] = 4, 0x40, 1, 0x38, 1, 2, 2
	want[34] = 0x6f // the flags, and nothing below: nobody waits
	copy(want[48:], "umbra-x")
	copy(want[176:], "UMBRA-x")
	copy(want[312:], []byte{1, 2, 3})
	if d := cmp.Diff(want[:], b); d != "" {
		t.Error(d)
	}
	for _, bad := range []request{{ref: Name(strings.Repeat("x", 128))}, {ref: Name("a/b")}, {ref: Ref{UUID: strings.Repeat("x", 129)}}} {
		if _, err := bad.encode(); err == nil {
			t.Errorf("%.20s is accepted", bad.ref)
		}
	}
}

// statusOf is a table as the kernel answers it: ways counted from the first.
func statusOf(t testing.TB, targets ...Target) []byte {
	b, err := encodeTable(targets)
	if err != nil {
		t.Fatal(err)
	}
	for at := uint32(0); int(at) < len(b); {
		next := at + native.Uint32(b[at+20:])
		native.PutUint32(b[at+20:], next)
		at = next
	}
	return b
}

func TestTableDecoding(t *testing.T) {
	want := []Target{{Length: 16, Type: "linear", Params: "8:0 2048"}, {Start: 16, Length: 8, Type: "thin-pool", Params: "1 2/3 4/5 - rw"}}
	got, err := decodeTable(2, statusOf(t, want...))
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	if _, err := decodeTable(3, statusOf(t, want...)); err == nil {
		t.Error("a target that is not there is read")
	}
}

func TestNamesDecoding(t *testing.T) {
	entry := func(dev uint64, next uint32, name string) []byte {
		b := native.AppendUint32(native.AppendUint64(nil, dev), next)
		b = append(append(b, name...), 0)
		for len(b) < int(next) {
			b = append(b, 0xee) // what newer kernels put there
		}
		return b
	}
	got, err := decodeNames(append(entry(unix.Mkdev(253, 300), 40, "one"), entry(unix.Mkdev(253, 1), 0, "two")...))
	if d := cmp.Diff([]Named{{"one", unix.Mkdev(253, 300)}, {"two", unix.Mkdev(253, 1)}}, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, none := range [][]byte{nil, make([]byte, 12)} {
		if got, err := decodeNames(none); len(got) != 0 || err != nil {
			t.Error("the empty list:", got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint32(2), statusOf(f, Target{Length: 16, Type: "linear", Params: "8:0 2048"}, Target{Start: 16, Length: 8, Type: "zero"}))
	f.Add(uint32(1), append(native.AppendUint32(native.AppendUint64(nil, 1), 0), "name\x00"...))
	f.Add(uint32(1), append(native.AppendUint32(nil, 24), "\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00linear\x00\x00"...))
	f.Fuzz(func(t *testing.T, n uint32, b []byte) {
		if got, err := decodeTable(n, b); err == nil && uint32(len(got)) != n {
			t.Errorf("%d targets, not %d", len(got), n)
		}
		_, _ = decodeNames(b)
		_, _ = decodeVersions(b)
		_, _ = decodeDeps(b)
		_, _ = terminated(b)
	})
}

func TestPoolStatus(t *testing.T) {
	for status, want := range map[string]Pool{
		"7 12/1024 100/8192 - rw discard_passdown queue_if_no_space - 256": {Transaction: 7, UsedMetadata: 12, TotalMetadata: 1024, UsedData: 100, TotalData: 8192, Mode: "rw", LowMetadata: 256},
		"0 1/2 3/3 5 out_of_data_space no_discard_passdown error_if_no_space needs_check 1": {UsedMetadata: 1, TotalMetadata: 2, UsedData: 3, TotalData: 3, Mode: "out_of_data_space",
			ErrorIfFull: true, NeedsCheck: true, LowMetadata: 1},
		"Fail": {Failed: true},
	} {
		got, err := ParsePool(status)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%q: %v\n%s", status, err, d)
		}
	}
	for _, bad := range []string{"", "1 2/3", "x 1/2 3/4 - rw a b", "1 1/2 5/4 - rw a b", "1 1 2/3 - rw a b"} {
		if p, err := ParsePool(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, p)
		}
	}
}

func FuzzStatus(f *testing.F) {
	f.Add("7 12/1024 100/8192 - rw discard_passdown queue_if_no_space - 256")
	f.Add("2048 4095")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePool(s); err == nil && (p.UsedData > p.TotalData || p.UsedMetadata > p.TotalMetadata) {
			t.Errorf("%q: %+v", s, p)
		}
		_, _ = ParseThin(s)
	})
}

// fake is a Control whose kernel is a function.
func fake(ioctl func(command uint32, b []byte) error) *Control { return &Control{ioctl: ioctl} }

func TestInterruptedCallsAreRepeated(t *testing.T) {
	n := 0
	c := fake(func(_ uint32, b []byte) error {
		if native.Uint32(b[offFlags:]) != unix.DM_SUSPEND_FLAG {
			t.Errorf("call %d has flags %x", n, native.Uint32(b[offFlags:]))
		}
		native.PutUint32(b[offFlags:], 0xffff) // the kernel's scribbling
		if n++; n < 3 {
			return unix.EINTR
		}
		native.PutUint32(b[offFlags:], 0)
		return nil
	})
	if err := c.Suspend(t.Context(), Name("x"), 0); err != nil || n != 3 {
		t.Error(n, err)
	}
}

func TestFullBuffersGrow(t *testing.T) {
	want := []Target{{Length: 8, Type: "linear", Params: strings.Repeat("x", 100_000)}}
	c := fake(func(_ uint32, b []byte) error {
		data := statusOf(t, want...)
		if len(b) < headerSize+len(data) {
			native.PutUint32(b[offFlags:], unix.DM_BUFFER_FULL_FLAG)
			return nil
		}
		native.PutUint32(b[offTargetCount:], 1)
		copy(b[headerSize:], data)
		return nil
	})
	got, err := c.Table(t.Context(), Name("x"))
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err)
	}
}

func code(err error) vss.HResult {
	var e *vss.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// TestSuspendGivenUp: the wait ends with the context, and what comes too late is
// undone.
func TestSuspendGivenUp(t *testing.T) {
	release := make(chan struct{})
	resumed := make(chan struct{})
	c := fake(func(_ uint32, b []byte) error {
		if native.Uint32(b[offFlags:])&unix.DM_SUSPEND_FLAG == 0 {
			close(resumed)
			return nil
		}
		<-release
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Suspend(ctx, Name("x"), 0); code(err) != vss.E_ABORT {
		t.Error(err)
	}
	select {
	case <-resumed:
		t.Error("resumed what is not suspended")
	default:
	}
	close(release)
	<-resumed
}

// TestSignalEndsWait: a kernel that waits interruptibly is interrupted.
func TestSignalEndsWait(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	var once sync.Once
	entered := make(chan struct{})
	c := fake(func(uint32, []byte) error {
		once.Do(func() { close(entered) })
		// poll is never restarted after a signal.
		fds := []unix.PollFd{{Fd: int32(p[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 20_000); err != nil {
			return err
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	start := time.Now()
	if err := c.Suspend(ctx, Name("x"), 0); code(err) != vss.E_ABORT || time.Since(start) > 5*time.Second {
		t.Error(time.Since(start), err)
	}
}

func TestErrors(t *testing.T) {
	for errno, want := range map[unix.Errno]vss.HResult{unix.ENXIO: vss.VSS_E_OBJECT_NOT_FOUND, unix.EBUSY: vss.VSS_E_VOLUME_IN_USE, unix.EPERM: vss.E_ACCESSDENIED} {
		c := fake(func(uint32, []byte) error { return errno })
		_, err := c.Remove(t.Context(), Name("x"), false, Alone)
		if code(err) != want || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if _, err := (&Control{}).kernelOf().Info(t.Context(), Name("x")); code(err) != vss.VSS_E_BAD_STATE || !errors.Is(err, os.ErrClosed) {
		t.Error("closed:", err)
	}
}

func (c *Control) kernelOf() *Control { c.ioctl = c.kernel; return c }

// TestMakeTakesBack: what cannot be finished is removed.
func TestMakeTakesBack(t *testing.T) {
	var calls []uint32
	c := fake(func(command uint32, b []byte) error {
		calls = append(calls, command)
		if command == unix.DM_TABLE_LOAD {
			return unix.EINVAL
		}
		return nil
	})
	_, err := c.Make(t.Context(), Spec{Name: "x", UUID: "UMBRA-x", Targets: []Target{{Length: 8, Type: "zero"}}})
	if err == nil {
		t.Error("made")
	}
	if d := cmp.Diff([]uint32{unix.DM_DEV_CREATE, unix.DM_TABLE_LOAD, unix.DM_DEV_REMOVE}, calls); d != "" {
		t.Error(d)
	}
}
