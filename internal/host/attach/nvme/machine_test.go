package nvme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const (
	targetName = "nqn.2026-01.io.umbra:array.test.hostb"
	hostName   = "nqn.2026-01.io.umbra:hostb"
	portal     = "192.0.2.1:4420"
	secret     = "DHHC-1:00:in:"
)

// machine is a kernel and an array, in a folder. The kernel learns of what the
// array shows when it is told, unless it is deaf.
type machine struct {
	t   *testing.T
	sys sysfs

	mu      sync.Mutex
	shown   map[uint64]Exported // by the array
	exports map[lun.NAA]Exported
	closed  []lun.NAA
	portals []string
	events  []chan block.Event
	seq     int
	told    []string // to the kernel
	refuse  map[string]error
	closing error // what CloseLUNs answers
	claimed error // by whoever has a disk mounted
	deaf    bool  // to what the array says by itself
	blind   bool  // to what the array has, when it looks
	late    time.Duration
	later   sync.WaitGroup
}

func newMachine(t *testing.T) (*machine, *Initiator) {
	t.Helper()
	m := &machine{t: t, shown: map[uint64]Exported{}, exports: map[lun.NAA]Exported{}, refuse: map[string]error{}, portals: []string{portal}}
	m.sys = sysfs{t.TempDir(), m.write}
	t.Cleanup(m.later.Wait)
	m.put("module/nvme_core/parameters/multipath", "Y")
	return m, m.initiator()
}

func (m *machine) initiator() *Initiator {
	i := New(m, Credentials{Target: targetName, Host: hostName, Secret: secret, TargetSecret: "DHHC-1:00:out:"})
	i.sys, i.dial, i.fabrics, i.identify, i.inspect, i.watch, i.flush, i.protect = m.sys, m.dial, m.fabrics, m.identify, m.inspect, m.watch, m.flush, m.protect
	i.offers = func() string { return "instance=-1,cntlid=-1,transport=%s,dhchap_secret=%s,dhchap_ctrl_secret=%s" }
	i.patience = 2 * time.Second
	return i
}

func (m *machine) put(path, text string) {
	m.t.Helper()
	p := m.sys.at(path)
	// Whole or not at all: it is read at the same time.
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p+".new", []byte(text+"\n"), 0o600), os.Rename(p+".new", p)); err != nil {
		m.t.Error(err)
	}
}

// soon does something in a while, and before the test ends.
func (m *machine) soon(after time.Duration, do func()) (done chan struct{}) {
	done = make(chan struct{})
	m.later.Add(1)
	time.AfterFunc(after, func() {
		defer m.later.Done()
		defer close(done)
		do()
	})
	return done
}

// offer is a LUN unmasked to this host.
func (m *machine) offer(n lun.NAA, number uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exports[n] = Exported{NAA: n, Number: number, Size: 64 << 20, ReadOnly: true}
}

func (m *machine) ExportLUNs(_ context.Context, naas []lun.NAA) (Exports, error) {
	m.mu.Lock()
	out := Exports{Target: targetName, Portals: m.portals}
	for _, n := range naas {
		e, ok := m.exports[n]
		if !ok {
			m.mu.Unlock()
			return Exports{}, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Object: n.String()}
		}
		if _, taken := m.shown[e.Number]; !taken {
			m.shown[e.Number] = e
		}
		out.LUNs = append(out.LUNs, e)
	}
	deaf, late := m.deaf, m.late
	m.mu.Unlock()
	if !deaf && m.live() {
		m.soon(late, m.look)
	}
	return out, nil
}

func (m *machine) CloseLUNs(_ context.Context, naas []lun.NAA) error {
	m.mu.Lock()
	if m.closing != nil {
		defer m.mu.Unlock()
		return m.closing
	}
	m.closed = append(m.closed, naas...)
	for number, e := range m.shown {
		if slices.Contains(naas, e.NAA) {
			delete(m.shown, number)
		}
	}
	deaf := m.deaf
	m.mu.Unlock()
	if !deaf {
		m.look()
	}
	return nil
}

func (m *machine) live() bool {
	return slices.ContainsFunc(m.sys.controllers(Credentials{Target: targetName, Host: hostName}), func(c controller) bool { return c.state == "live" })
}

func (m *machine) dial(_ context.Context, p string) error { return m.refuse["dial "+p] }

// fabrics connects.
func (m *machine) fabrics(_ context.Context, options string) error {
	m.mu.Lock()
	m.told = append(m.told, "connect "+options)
	var host, port string
	for o := range strings.SplitSeq(options, ",") {
		switch k, v, _ := strings.Cut(o, "="); k {
		case "traddr":
			host = v
		case "trsvcid":
			port = v
		}
	}
	err := m.refuse["connect "+net.JoinHostPort(host, port)]
	n := len(m.sys.names("class/nvme"))
	late := m.late
	m.mu.Unlock()
	if err != nil {
		return err
	}
	m.controller(fmt.Sprintf("nvme%d", n), "live", host, port)
	m.soon(late, m.look)
	return nil
}

func (m *machine) controller(name, state, host, port string) {
	m.t.Helper()
	for a, v := range map[string]string{"state": state, "subsysnqn": targetName, "hostnqn": hostName, "address": "traddr=" + host + ",trsvcid=" + port + ",src_addr=192.0.2.9", "dhchap_secret": secret} {
		m.put("class/nvme/"+name+"/"+a, v)
	}
}

// look makes the kernel's disks what the array shows.
func (m *machine) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blind {
		return
	}
	have := map[uint64]bool{}
	for _, d := range m.sys.disks(targetName) {
		if e, ok := m.shown[d.number]; ok && e.NAA == d.lun {
			have[d.number] = true
			continue
		}
		os.RemoveAll(m.sys.at("class/block", d.name))
	}
	for number, e := range m.shown {
		if have[number] {
			continue
		}
		m.seq++
		name := fmt.Sprintf("nvme0n%d", m.seq)
		for a, v := range map[string]string{"device/subsysnqn": targetName, "hidden": "0", "diskseq": fmt.Sprint(m.seq), "nguid": identity.GUIDText(identity.NGUID(e.NAA)), "uuid": identity.GUIDText(identity.UUID(e.NAA)),
			"wwid": "uuid." + identity.GUIDText(identity.UUID(e.NAA)), "bytes": fmt.Sprint(e.Size), "nsid": fmt.Sprint(number)} {
			m.put("class/block/"+name+"/"+a, v)
		}
	}
	for _, c := range m.events {
		select {
		case c <- block.Event{Action: "add"}:
		default:
		}
	}
}

// write is the kernel being told something.
func (m *machine) write(path, value string) error {
	rel := strings.TrimPrefix(path, m.sys.root+"/")
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fs.ErrNotExist
	}
	m.mu.Lock()
	m.told = append(m.told, rel+" = "+value)
	m.mu.Unlock()
	switch {
	case strings.HasSuffix(rel, "/rescan_controller"):
		m.look()
	case strings.HasSuffix(rel, "/delete_controller"):
		os.RemoveAll(filepath.Dir(path))
		if !m.live() { // with the last its disks go
			for _, d := range m.sys.disks(targetName) {
				os.RemoveAll(m.sys.at("class/block", d.name))
			}
		}
	default:
		m.t.Errorf("the kernel was told %s = %s", rel, value)
	}
	return nil
}

// identify is the array, asked over a disk.
func (m *machine) identify(_ context.Context, d disk) (lun.NAA, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.shown[d.number]
	return e.NAA, ok, m.refuse["identify"]
}

func (m *machine) inspect(_ context.Context, name string) (block.Device, error) {
	uuid, ok := identity.ParseGUID(m.sys.attr("class/block", name, "uuid"))
	if !ok {
		return block.Device{}, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Object: name}
	}
	n, _ := identity.OfNamespace([16]byte{}, uuid)
	d := block.Device{Name: name, Path: "/dev/" + name, LUN: identity.Info(n)}
	_, _ = fmt.Sscan(m.sys.attr("class/block", name, "bytes"), &d.Size)
	_, _ = fmt.Sscan(m.sys.attr("class/block", name, "diskseq"), &d.DiskSeq)
	return d, nil
}

func (m *machine) protect(_ context.Context, d block.Device) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, "protect "+d.Name)
	return m.refuse["protect"]
}

func (m *machine) watch(context.Context) (<-chan block.Event, func(), error) {
	c := make(chan block.Event, 8)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, c)
	return c, func() {}, nil
}

func (m *machine) flush(_ context.Context, d block.Device) (func(), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, "flush "+d.Name)
	return func() { m.mu.Lock(); m.told = append(m.told, "release "+d.Name); m.mu.Unlock() }, m.claimed
}

// did returns and forgets what the kernel was told.
func (m *machine) did() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := m.told
	m.told = nil
	return told
}

func naa(tail byte) lun.NAA { return lun.NAA{0x60, 0x01, 0x40, 0x5a, 15: tail} }

func infos(naas ...lun.NAA) (out []lun.Info) {
	for _, n := range naas {
		out = append(out, lun.Info{Version: lun.InfoVersion, StorageIDs: []lun.StorageID{n.StorageID()}})
	}
	return out
}

var errNVMe = unix.EIO // what the kernel makes of a refusal
