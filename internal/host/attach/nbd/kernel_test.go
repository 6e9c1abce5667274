package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/outlive"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// TestHandshake is with nbdkit itself: size and rights are told as they are, and
// the socket is still good for requests.
func TestHandshake(t *testing.T) {
	if _, err := exec.LookPath("nbdkit"); err != nil {
		t.Skip(err)
	}
	for what, c := range map[string]struct {
		args     []string
		readOnly bool
		at512    []byte
	}{
		"writable":  {[]string{"memory", "3M"}, false, make([]byte, 8)},
		"read-only": {[]string{"-r", "pattern", "3M"}, true, []byte{0, 0, 0, 0, 0, 0, 2, 0}}, // its own offsets
	} {
		t.Run(what, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "nbd")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			p, err := outlive.Start(outlive.Program{Args: append([]string{"nbdkit", "-f", "-U", socketName}, c.args...), Dir: dir, Log: filepath.Join(dir, logName), Orphan: true})
			if err != nil {
				t.Fatal(err)
			}
			defer p.End(context.Background(), 0)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			f, e, err := dial(ctx, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if e.size != 3<<20 || (e.flags&flagReadOnly != 0) != c.readOnly || e.flags&1 == 0 {
				t.Errorf("told %+v", e)
			}
			// NBD_CMD_READ of eight bytes at 512.
			read := binary.BigEndian.AppendUint32(nil, 0x25609513)
			read = append(read, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 8)
			answer := make([]byte, 16+8)
			if _, err := f.Write(read); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(f, answer); err != nil || !bytes.Equal(answer[16:], c.at512) {
				t.Errorf("% x, %v", answer, err)
			}
		})
	}
}

// TestHandshakeRefused: what is no NBD server, or does not say what must be said,
// is an error and no hang.
func TestHandshakeRefused(t *testing.T) {
	hello := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, magic), optionMagic)
	hello = append(hello, 0, fixedNew|noZeroes)
	reply := func(kind uint32, body ...byte) []byte {
		out := binary.BigEndian.AppendUint64(nil, replyMagic)
		out = binary.BigEndian.AppendUint32(out, optionGo)
		out = binary.BigEndian.AppendUint32(out, kind)
		return append(binary.BigEndian.AppendUint32(out, uint32(len(body))), body...)
	}
	for what, says := range map[string][]byte{
		"another protocol":        []byte("HTTP/1.1 400 Bad Request\r\n"),
		"the old handshake":       append(append([]byte(nil), hello[:17]...), 0),
		"no size":                 append(append([]byte(nil), hello...), reply(replyAck)...),
		"a refusal":               append(append([]byte(nil), hello...), reply(1<<31+6, []byte("no such export")...)...),
		"an answer without end":   append(append([]byte(nil), hello...), reply(replyInfo, make([]byte, maxReply+1)...)...),
		"an answer to other than": append(append([]byte(nil), hello...), make([]byte, 20)...),
		"half an answer":          append(append([]byte(nil), hello...), reply(replyInfo, 0)[:20]...),
	} {
		t.Run(what, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() {
				go func() { _, _ = io.Copy(io.Discard, theirs) }()
				_, _ = theirs.Write(says)
				theirs.Close()
			}()
			if e, err := shake(ours); err == nil {
				t.Errorf("taken for %+v", e)
			}
		})
	}
}

// TestSocketsFit: a folder in which sockets would have too long a path is one for
// FUSE. The longest that fits is tried for real.
func TestSocketsFit(t *testing.T) {
	const rest = len("/naa.60000000000000000000000000000000/" + socketName)
	for length, want := range map[int]bool{len("/run/umbra/nbd/00000000-0000-0000-0000-000000000000"): true, 107 - rest: true, 108 - rest: false} {
		dir := "/" + strings.Repeat("d", length-1)
		if got := New("t", dir, nil, Credentials{}).socketsFit(); got != want {
			t.Errorf("a folder of %d characters fits: %v", length, got)
		}
		if err := unix.Bind(-1, &unix.SockaddrUnix{Name: filepath.Join(dir, lun.NAA{}.String(), socketName)}); errors.Is(err, unix.EINVAL) == want {
			t.Errorf("the system says otherwise for %d characters: %v", length, err)
		}
	}
}

// TestAbandoned: what was taken from under its user is not the LUN's device any
// more, though it is there until that user closes it; the LUN can be attached
// again meanwhile, and each goes without the other.
func TestAbandoned(t *testing.T) {
	if !kernelReady() {
		t.Skip("this kernel has no NBD client")
	}
	b := newBench(t)
	i := b.initiator()
	n, content := b.lun(4<<20, true)
	old := b.attach(i, n)
	f, err := os.OpenFile(old.Path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := i.Abandon(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if ds := b.own(); len(ds) != 1 || !ds[0].Going() || ds[0].Qualified() {
		t.Fatalf("listed as %+v", ds)
	}
	if err := i.CloseAbsent(t.Context(), []lun.NAA{n}); err != nil || len(b.closed) < 2 {
		t.Errorf("to the array it is attached: %v, %v", b.closed, err)
	}
	d := b.attach(i, n)
	if got, err := os.ReadFile(d.Path); d.Name == old.Name || err != nil || !bytes.Equal(got, content) {
		t.Errorf("attached again as %s, which reads otherwise (%v)", d.Name, err)
	}
	i.patience = 100 * time.Millisecond
	if err := i.Detach(t.Context(), old); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Errorf("what is left, and open, can be detached: %v", err)
	}
	if err := i.Abandon(t.Context(), old); err != nil || !outlive.Kept(i.folder(n)).Alive() {
		t.Errorf("abandoned twice, it takes the new one along: %v", err)
	}
	f.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := block.Inspect(t.Context(), old.Name); errors.Is(err, vss.VSS_E_OBJECT_NOT_FOUND) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not go with its last user")
		}
	}
	i.patience = 10 * time.Second
	b.detach(i, d)
}

// TestUnrecorded: a device whose proxy has no record, or a record without a
// device, is what a daemon leaves that is killed on the way.
func TestUnrecorded(t *testing.T) {
	if !kernelReady() {
		t.Skip("this kernel has no NBD client")
	}
	b := newBench(t)
	i := b.initiator()
	n, content := b.lun(4<<20, false)
	d := b.attach(i, n)
	p := outlive.Kept(i.folder(n))
	if err := disconnect(index(d)); err != nil {
		t.Fatal(err)
	}
	now := b.attach(i, n) // the proxy was there and no device
	if got, err := os.ReadFile(now.Path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("attached again it reads otherwise: %v", err)
	}
	if p.Alive() {
		t.Error("the proxy of before still runs")
	}
	p = outlive.Kept(i.folder(n))
	defer p.End(context.Background(), 0)
	if err := os.RemoveAll(i.folder(n)); err != nil {
		t.Fatal(err)
	}
	last := b.attach(i, n)
	if last.DiskSeq == now.DiskSeq {
		t.Error("a device of which nothing is known was taken for the LUN's")
	}
	b.detach(i, last)
}

// TestServerGone: a host that has lost its right gets errors, not a hang.
func TestServerGone(t *testing.T) {
	if !kernelReady() {
		t.Skip("this kernel has no NBD client")
	}
	b := newBench(t)
	i := b.initiator()
	n, _ := b.lun(4<<20, true)
	d := b.attach(i, n)
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := b.export.Revoke(b.peer.Initiator); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := f.ReadAt(aligned(4096), 1<<20); err == nil || time.Since(began) > 2*retries*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	f.Close()
	if err := i.Detach(t.Context(), d); err != nil {
		t.Error(err)
	}
}
