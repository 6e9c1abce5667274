package nbd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/export"
	server "github.com/umbra-vss/umbra/internal/array/export/nbd"
	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/internal/outlive"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// bench is an array's export with LUNs in files, and one host: the whole way,
// with the array's own server.
type bench struct {
	t      *testing.T
	tag    string
	dir    string // of the host
	export *server.Export
	peer   export.Peer
	luns   map[lun.NAA]export.LUN
	closed []lun.NAA
	first  []string // portals that the host is told before the true one
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: attaches devices")
	}
	programs := []string{"qemu-storage-daemon", "nbdkit"}
	if !kernelReady() {
		programs = append(programs, "nbdfuse")
		if _, err := os.Stat("/dev/fuse"); err != nil {
			t.Skip(err)
		}
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	portal := l.Addr().String()
	l.Close()
	dir, err := os.MkdirTemp("/var/tmp", "umbra-nbd") // on a disk: direct I/O
	if err != nil {
		t.Fatal(err)
	}
	e, err := server.Open(server.Folder(filepath.Join(dir, "array")), []string{portal}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, tag: block.HostTag(fmt.Sprint("nbd-test", os.Getpid(), t.Name())), dir: filepath.Join(dir, "host"), export: e,
		peer: export.Peer{Initiator: "hosta", Initiates: export.Secret{User: "hosta", Password: hex.EncodeToString(bytes.Repeat([]byte{7}, 32))}, Lane: 1},
		luns: map[lun.NAA]export.LUN{}}
	t.Cleanup(func() {
		if err := errors.Join(e.Teardown(), e.Close()); err != nil {
			t.Error(err)
		}
		// A test that failed may have left something attached.
		ds := b.own()
		_ = outlive.EndAll(context.Background(), b.dir)
		for _, d := range ds {
			t.Errorf("left attached: %s", d.Path)
			if d.NBD != nil {
				_ = disconnect(index(d))
				continue
			}
			if f, err := os.Open(d.Path); err == nil {
				_, _ = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD)
				f.Close()
			}
		}
		mounts, _ := filepath.Glob(filepath.Join(b.dir, "naa.*", "*"))
		for _, m := range mounts {
			_ = unix.Unmount(m, unix.MNT_DETACH)
		}
		os.RemoveAll(dir)
	})
	if err := e.Admit(b.peer); err != nil {
		t.Fatal(err)
	}
	return b
}

// own are the host's devices, of the loop driver and of the kernel's NBD client.
func (b *bench) own() []block.Device {
	b.t.Helper()
	files, err := block.Own(context.Background(), b.tag)
	if err != nil {
		b.t.Fatal(err)
	}
	kernel, err := block.OwnNBD(context.Background(), b.tag)
	if err != nil {
		b.t.Fatal(err)
	}
	return append(files, kernel...)
}

// lun makes a LUN of random content.
func (b *bench) lun(size int, readOnly bool) (lun.NAA, []byte) {
	b.t.Helper()
	var n lun.NAA
	rand.Read(n[:])
	digits, _ := hex.DecodeString(identity.OUI + "0")
	copy(n[:], digits)
	n[3] = n[3] &^ 0xf0
	n, err := lun.ParseNAA("naa." + identity.OUI + hex.EncodeToString(n[:])[len(identity.OUI):])
	if err != nil {
		b.t.Fatal(err)
	}
	content := make([]byte, size)
	rand.Read(content)
	file := filepath.Join(filepath.Dir(b.dir), n.String())
	if err := os.WriteFile(file, content, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.luns[n] = export.LUN{NAA: n, File: file, Size: uint64(size), Maps: []export.Mapping{{Initiator: "hosta", ReadOnly: readOnly}}}
	return n, content
}

func (b *bench) ExportLUNs(_ context.Context, naas []lun.NAA) (Exports, error) {
	_, portals := b.export.Reach(b.peer)
	out := Exports{Portals: append(b.first[:len(b.first):len(b.first)], portals...)}
	for _, n := range naas {
		l := b.luns[n]
		if err := b.export.Apply(l); err != nil {
			return Exports{}, err
		}
		out.LUNs = append(out.LUNs, Exported{NAA: n, Size: l.Size, ReadOnly: l.Maps[0].ReadOnly})
	}
	return out, nil
}

func (b *bench) CloseLUNs(_ context.Context, naas []lun.NAA) error {
	b.closed = append(b.closed, naas...)
	var errs []error
	for _, n := range naas {
		errs = append(errs, b.export.Apply(export.LUN{NAA: n}))
	}
	return errors.Join(errs...)
}

func (b *bench) initiator() *Initiator {
	return New(b.tag, b.dir, b, Credentials{Identity: b.peer.Initiates.User, Key: b.peer.Initiates.Password})
}

func (b *bench) attach(i *Initiator, n lun.NAA) block.Device {
	b.t.Helper()
	ds, err := i.Rescan(b.t.Context(), []lun.Info{identity.Info(n)})
	if err != nil || len(ds) != 1 {
		b.t.Fatalf("%v, %v", ds, err)
	}
	if naa, ok := ds[0].LUN.NAA(); !ok || naa != n || !i.Has(ds[0]) || !i.Present(n) {
		b.t.Fatalf("attached as %+v", ds[0])
	}
	return ds[0]
}

func (b *bench) detach(i *Initiator, d block.Device) {
	b.t.Helper()
	for range 2 { // idempotent
		if err := i.Detach(b.t.Context(), d); err != nil {
			b.t.Fatal(err)
		}
	}
	n, _ := d.LUN.NAA()
	if i.Present(n) || i.Has(d) || len(b.closed) == 0 {
		b.t.Errorf("%s is still there", n)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "naa.*")); len(left) > 0 {
		b.t.Errorf("left: %v", left)
	}
}

// TestRandomWrites compares every byte with a shadow in memory, after writes of
// all sizes at all places, direct and through the page cache, in parallel. A way
// of this kind once stored wrong data without an error.
func TestRandomWrites(t *testing.T) {
	size, writes := 24<<20, 100
	if testing.Short() { // on an emulated machine
		size, writes = 8<<20, 40
	}
	b := newBench(t)
	i := b.initiator()
	n, shadow := b.lun(size, false)
	d := b.attach(i, n)
	const lanes = 4
	type done struct{ err error }
	ends := make(chan done, lanes)
	for lane := range lanes {
		go func() { // each has its own quarter, so that the order does not matter
			r := mrand.New(mrand.NewPCG(uint64(lane), 42))
			flags := unix.O_RDWR
			if lane%2 == 0 {
				flags |= unix.O_DIRECT
			}
			ends <- done{func() error {
				f, err := os.OpenFile(d.Path, flags, 0)
				if err != nil {
					return err
				}
				defer f.Close()
				buf := aligned(256 << 10)
				for range writes {
					length := 512 * (1 + r.IntN(len(buf)/512))
					if r.IntN(2) == 0 {
						length = 512 * (1 + r.IntN(16))
					}
					at := lane*size/lanes + 512*r.IntN((size/lanes-length)/512)
					part := buf[:length]
					for k := range part {
						part[k] = byte(r.Uint32())
					}
					copy(shadow[at:], part)
					if _, err := f.WriteAt(part, int64(at)); err != nil {
						return err
					}
				}
				return f.Sync()
			}()}
		}()
	}
	for range lanes {
		if e := <-ends; e.err != nil {
			t.Error(e.err)
		}
	}
	for what, read := range map[string]func() []byte{
		"through the device, direct": func() []byte {
			f, err := os.OpenFile(d.Path, unix.O_RDONLY|unix.O_DIRECT, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			buf := aligned(size)
			for at := 0; at < size; at += 1 << 20 {
				if _, err := f.ReadAt(buf[at:at+1<<20], int64(at)); err != nil {
					t.Fatal(err)
				}
			}
			return buf
		},
		"in the array's file": func() []byte {
			got, err := os.ReadFile(b.luns[n].File)
			if err != nil {
				t.Fatal(err)
			}
			return got
		},
	} {
		if got := read(); !bytes.Equal(got, shadow) {
			wrong := 0
			for k := range got {
				if got[k] != shadow[k] {
					wrong++
				}
			}
			t.Errorf("%s: %d bytes of %d are wrong", what, wrong, size)
		}
	}
	b.detach(i, d)
}

func aligned(size int) []byte {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	return b
}

// TestReadOnly: a copy cannot be written by any means the host has.
func TestReadOnly(t *testing.T) {
	b := newBench(t)
	i := b.initiator()
	n, content := b.lun(8<<20, true)
	d := b.attach(i, n)
	if !d.ReadOnly {
		t.Error("the device is writable")
	}
	if err := block.SetReadOnly(t.Context(), d, false); err == nil && d.NBD == nil {
		t.Error("the device can be made writable")
	}
	if f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_DIRECT, 0); err == nil {
		if _, err := f.WriteAt(aligned(4096), 0); err == nil {
			t.Error("the device can be written")
		}
		f.Close()
	}
	if f, err := os.OpenFile(i.file(n), os.O_RDWR, 0); err == nil {
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Error("the file under it can be written")
		}
		f.Close()
	}
	if got, err := os.ReadFile(d.Path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the device reads otherwise, %v", err)
	}
	b.detach(i, d)
}

// TestDaemonRestart: another life of the daemon finds what is attached, with the
// same processes.
func TestDaemonRestart(t *testing.T) {
	b := newBench(t)
	i := b.initiator()
	n, _ := b.lun(8<<20, false)
	d := b.attach(i, n)
	p := outlive.Kept(i.folder(n))
	again := b.initiator()
	if got := b.attach(again, n); got.Path != d.Path || got.DiskSeq != d.DiskSeq {
		t.Errorf("attached anew: %+v", got)
	}
	if now := outlive.Kept(i.folder(n)); now != p || !now.Alive() {
		t.Errorf("its processes are others: %+v, %+v", p, now)
	}
	// Detach in use: it stays, and works.
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Detach(t.Context(), d); !errors.Is(err, vss.VSS_E_VOLUME_IN_USE) {
		t.Errorf("detached under its user: %v", err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
		t.Error(err)
	}
	f.Close()
	b.detach(again, d)
}

// TestDead: when the processes of a LUN have ended, its device gives errors, not
// a hang; everybody else's devices are listed as ever; and attaching again gives
// a device that works.
func TestDead(t *testing.T) {
	b := newBench(t)
	i := b.initiator()
	n, content := b.lun(8<<20, false)
	d := b.attach(i, n)
	if err := outlive.Kept(i.folder(n)).End(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(d.Path); err == nil {
		t.Error("a dead device reads")
	}
	time.Sleep(1200 * time.Millisecond) // for a second the kernel knows what the file is
	ds := b.own()
	if got, ok := ds[0].LUN.NAA(); len(ds) != 1 || !ok || got != n || ds[0].Loop != nil && !ds[0].Loop.Dead {
		t.Fatalf("listed: %+v", ds)
	}
	d = b.attach(i, n)
	if got, err := os.ReadFile(d.Path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("attached again it reads otherwise, %v", err)
	}
	if err := outlive.Kept(i.folder(n)).End(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	b.detach(i, d)
	if ds := b.own(); len(ds) > 0 {
		t.Errorf("still there: %+v", ds)
	}
}

// TestWrongKey is a refusal with the remedy, at once, and leaves nothing.
func TestWrongKey(t *testing.T) {
	b := newBench(t)
	i := New(b.tag, b.dir, b, Credentials{Identity: "hosta", Key: strings.Repeat("ab", 32)})
	n, _ := b.lun(8<<20, false)
	began := time.Now()
	_, err := i.Rescan(t.Context(), []lun.Info{identity.Info(n)})
	if !errors.Is(err, vss.E_ACCESSDENIED) || time.Since(began) > 8*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if i.Present(n) || len(b.closed) != 1 {
		t.Errorf("left: %v, closed %v", i.Present(n), b.closed)
	}
}

// TestPortals: of several portals the first that answers is taken.
func TestPortals(t *testing.T) {
	b := newBench(t)
	i := b.initiator()
	n, content := b.lun(8<<20, true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.first = []string{l.Addr().String()} // nobody's, as soon as
	l.Close()
	d := b.attach(i, n)
	if got, err := os.ReadFile(d.Path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the device reads otherwise, %v", err)
	}
	b.detach(i, d)
}

// TestAbandon: the device goes from under its user.
func TestAbandon(t *testing.T) {
	b := newBench(t)
	i := b.initiator()
	n, _ := b.lun(8<<20, true)
	d := b.attach(i, n)
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := i.Abandon(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(aligned(4096), 4096); err == nil {
		t.Error("an abandoned device reads on")
	}
	if i.Present(n) || len(b.closed) != 1 {
		t.Error("it is still there")
	}
}
