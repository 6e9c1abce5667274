package iscsi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/host/block"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

const (
	targetName    = "iqn.2026-01.io.umbra:array.test"
	initiatorName = "iqn.2026-01.io.umbra:hostb"
	portal        = "192.0.2.1:3260"
	portal2       = "192.0.2.2:3260"
)

// wire is how a portal is reached: the session there has this number, and the
// SCSI host below it is one less.
var wires = map[string]int{portal: 3, portal2: 4}

// shown is what the array shows at a LUN number.
type shown struct {
	naa      lun.NAA
	size     uint64
	readOnly bool
}

// machine is a kernel, open-iscsi and an array, in a folder. What the kernel
// remembers of a disk changes when it is asked to look again, and only then.
type machine struct {
	t    *testing.T
	dir  string
	sys  sysfs
	base string // open-iscsi's records

	mu      sync.Mutex
	numbers map[uint64]shown // at the array
	exports map[lun.NAA]uint64
	closed  []lun.NAA
	events  []chan block.Event
	seq     int
	said    []string         // to iscsiadm, the verb
	told    []string         // to the kernel
	refuse  error            // login
	claimed error            // by whoever has a disk mounted
	portals []string         // the array's
	silent  map[string]bool  // portals that do not answer
	hang    map[int]bool     // SCSI hosts that do not answer the kernel
	used    map[string]bool  // disks
	greedy  bool             // multipathd runs, and wants what it sees
	clings  bool             // multipathd does not take maps apart
	wrong   map[string]shown // what is at one place only
	late    time.Duration
	deaf    bool // iscsid goes on trying to log in
	blind   bool // scans show nothing
}

func newMachine(t *testing.T) (*machine, *Initiator) {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), numbers: map[uint64]shown{}, exports: map[lun.NAA]uint64{},
		portals: []string{portal}, silent: map[string]bool{}, hang: map[int]bool{}, used: map[string]bool{}}
	m.sys = sysfs{filepath.Join(m.dir, "sys"), m.write}
	m.base = filepath.Join(m.dir, "etc/iscsi")
	if err := os.MkdirAll(m.base, 0o700); err != nil {
		t.Fatal(err)
	}
	return m, m.initiator()
}

func (m *machine) initiator() *Initiator {
	i := New("0a1b2c3d", m, Credentials{Target: targetName, Initiator: initiatorName, User: "hostb", Secret: "s3cret-in", TargetUser: "array", TargetSecret: "s3cret-out"})
	i.sys, i.run, i.inspect, i.watch, i.flush, i.databases = m.sys, m.iscsiadm, m.inspect, m.watch, m.flush, []string{filepath.Join(m.dir, "nowhere"), m.base}
	i.patience, i.grace, i.hurry = 2*time.Second, 200*time.Millisecond, 100*time.Millisecond
	i.maps, i.dial = taker{m}, m.dial
	i.inUse = func(d block.Device) bool { return m.used[d.Name] }
	i.best = m.best
	return i
}

func (m *machine) put(path, text string) {
	m.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		m.t.Error(err)
	}
}

func (m *machine) link(to, path string) {
	m.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.MkdirAll(to, 0o755), os.Symlink(to, path)); err != nil && !errors.Is(err, fs.ErrExist) {
		m.t.Error(err)
	}
}

// show is the array's side: a LUN that is exported, at a number.
func (m *machine) show(naa lun.NAA, number uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exports[naa] = number
	m.numbers[number] = shown{naa, 64 << 20, true}
}

func (m *machine) ExportLUNs(_ context.Context, naas []lun.NAA) (Exports, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Exports{Target: targetName, Portals: m.portals}
	for _, n := range naas {
		number, ok := m.exports[n]
		if !ok {
			return Exports{}, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Op: "export LUNs", Object: n.String(), Reason: "no such LUN", Remedy: "unmask it"}
		}
		out.LUNs = append(out.LUNs, Exported{NAA: n, Number: number, Size: 64 << 20, ReadOnly: true})
	}
	return out, nil
}

func (m *machine) CloseLUNs(_ context.Context, naas []lun.NAA) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = append(m.closed, naas...)
	return nil
}

// record is what iscsiadm 2.1.8 of Debian 12 writes for a new node, shortened.
const record = `# BEGIN RECORD 2.1.8
node.name = %s
node.tpgt = 1
node.startup = manual
node.leading_login = No
iface.iscsi_ifacename = umbra-0a1b2c3d
iface.transport_name = tcp
node.discovery_type = static
node.session.initial_login_retry_max = 8
node.session.auth.authmethod = None
node.session.auth.chap_algs = MD5
node.session.timeo.replacement_timeout = 120
node.session.scan = auto
node.conn[0].address = 192.0.2.1
node.conn[0].port = 3260
node.conn[0].timeo.login_timeout = 30
# END RECORD
`

func (m *machine) iscsiadm(ctx context.Context, args ...string) (string, error) {
	line := strings.Join(args, " ")
	m.mu.Lock()
	m.said = append(m.said, line)
	refuse := m.refuse
	m.mu.Unlock()
	if strings.Contains(line, "s3cret") {
		m.t.Errorf("a secret on a command line: %s", line)
	}
	switch {
	case line == "-m iface -I umbra-0a1b2c3d -o new":
		m.put(m.base+"/ifaces/umbra-0a1b2c3d", "# BEGIN RECORD 2.1.8\niface.iscsi_ifacename = umbra-0a1b2c3d\niface.transport_name = tcp\n# END RECORD\n")
	default:
		for p, n := range wires {
			switch line {
			case "-m node -T " + targetName + " -p " + p + ",1 -I umbra-0a1b2c3d -o new":
				m.put(m.nodeAt(p), fmt.Sprintf(record, targetName))
				return "", nil
			case "-m node -T " + targetName + " -p " + p + ",1 -I umbra-0a1b2c3d --login":
				if m.deaf {
					<-ctx.Done()
					return "", ctx.Err()
				}
				if refuse != nil {
					return "", refuse
				}
				m.sessionAt(p, "LOGGED_IN")
				return "", nil
			case fmt.Sprintf("-m session -r %d --logout", n):
				for _, p := range m.sys.places(session{host: n - 1}) {
					m.drop(p)
				}
				return "", os.RemoveAll(m.sys.at(fmt.Sprintf("class/iscsi_session/session%d", n)))
			}
		}
		m.t.Errorf("iscsiadm %s", line)
	}
	return "", nil
}

func (m *machine) node() string { return m.nodeAt(portal) }

func (m *machine) nodeAt(portal string) string {
	return m.base + "/nodes/" + targetName + "/" + strings.Replace(portal, ":", ",", 1) + ",1/umbra-0a1b2c3d"
}

func (m *machine) dial(ctx context.Context, portal string) error {
	m.mu.Lock()
	silent := m.silent[portal]
	m.mu.Unlock()
	if !silent {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// best is what block.Best is on a kernel.
func (m *machine) best(paths []block.Device) block.Device {
	return slices.MinFunc(paths, func(a, b block.Device) int {
		return cmp.Or(cmp.Compare(m.rank(a), m.rank(b)), cmp.Compare(a.DiskSeq, b.DiskSeq))
	})
}

func (m *machine) rank(d block.Device) int {
	switch {
	case m.used[d.Name]:
		return 0
	case m.sys.attr(scsiDevices, m.sys.attr("class/block", d.Name, "place"), "device/state") == "running":
		return 1
	}
	return 2
}

// mapped is multipathd making a map of all disks that there are.
func (m *machine) mapped() {
	m.put(m.sys.at("class/block/dm-0/dm/uuid"), "mpath-36001405a\n")
	m.put(m.sys.at("class/block/dm-0/dm/name"), "mpatha\n")
	m.put(m.sys.at("class/block/dm-0/diskseq"), "99\n")
	for _, d := range m.sys.names("class/block") {
		if d != "dm-0" {
			m.put(m.sys.at("class/block", d, "holders/dm-0/x"), "")
			m.link(m.sys.at("class/block", d), m.sys.at("class/block/dm-0/slaves", d))
		}
	}
}

func (m *machine) wants(context.Context, []block.Device) bool {
	if m.greedy && !slices.Contains(m.sys.names("class/block"), "dm-0") {
		m.mapped()
	}
	return m.greedy
}

func (m *machine) takeApart(name, how string) error {
	m.mu.Lock()
	m.told = append(m.told, how+" "+name)
	m.mu.Unlock()
	if m.clings || m.used["dm-0"] {
		return errors.New("map in use")
	}
	for _, d := range m.sys.names("class/block") {
		os.RemoveAll(m.sys.at("class/block", d, "holders"))
	}
	return os.RemoveAll(m.sys.at("class/block/dm-0"))
}

// session makes a session in sysfs, as the kernel lays it out.
func (m *machine) session(state string) { m.sessionAt(portal, state) }

func (m *machine) sessionAt(portal, state string) {
	n := wires[portal]
	name := fmt.Sprintf("session%d", n)
	real := m.sys.at(fmt.Sprintf("devices/platform/host%d/%s/iscsi_session/%[2]s", n-1, name))
	m.link(real, m.sys.at("class/iscsi_session", name))
	address, port, _ := strings.Cut(portal, ":")
	m.put(m.sys.at(fmt.Sprintf("class/iscsi_connection/connection%d:0/persistent_address", n)), address+"\n")
	m.put(m.sys.at(fmt.Sprintf("class/iscsi_connection/connection%d:0/persistent_port", n)), port+"\n")
	for name, v := range map[string]string{"targetname": targetName, "initiatorname": initiatorName, "state": state, "target_id": "0"} {
		m.put(filepath.Join(real, name), v+"\n")
	}
	m.put(m.sys.at(fmt.Sprintf("class/scsi_host/host%d/scan", n-1)), "")
}

// write is the kernel being told something.
func (m *machine) write(path, value string) error {
	rel := strings.TrimPrefix(path, m.sys.root+"/")
	m.mu.Lock()
	m.told = append(m.told, rel+" = "+value)
	late, blind := m.late, m.blind
	m.mu.Unlock()
	var channel, id int
	var number uint64
	var host int
	switch {
	case strings.HasPrefix(rel, "class/scsi_host/host") && strings.HasSuffix(rel, "/scan"):
		_, _ = fmt.Sscanf(rel, "class/scsi_host/host%d/scan", &host)
		if m.hung(host) {
			time.Sleep(time.Second)
			return nil
		}
		if n, err := fmt.Sscanf(value, "%d %d %d", &channel, &id, &number); n != 3 || err != nil {
			m.t.Errorf("a scan of %q is a scan of everything", value)
		}
		if _, ok := m.at(number); ok && !blind {
			m.arrive(host, number, late)
		}
	case strings.HasSuffix(rel, "/device/rescan"):
		place := strings.Split(rel, "/")[2]
		if s, ok := m.at(numberOf(place)); ok {
			m.page(place, s)
		}
	case strings.HasSuffix(rel, "/device/delete"):
		m.drop(strings.Split(rel, "/")[2])
	default:
		return fs.ErrNotExist
	}
	return nil
}

func (m *machine) at(number uint64) (shown, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.numbers[number]
	return s, ok
}

func (m *machine) hung(host int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hang[host]
}

func numberOf(place string) (n uint64) {
	_, _ = fmt.Sscanf(place[strings.LastIndex(place, ":")+1:], "%d", &n)
	return n
}

// arrive makes a SCSI device, and its disk a moment later.
func (m *machine) arrive(host int, number uint64, late time.Duration) {
	place := fmt.Sprintf("%d:0:0:%d", host, number)
	if m.sys.has(place) {
		return
	}
	s, _ := m.at(number)
	m.page(place, s)
	m.put(m.sys.at(scsiDevices, place, "device/state"), "running\n")
	disk := func() {
		m.mu.Lock()
		m.seq++
		name, seq := fmt.Sprintf("sd%c", 'a'+m.seq-1), m.seq
		m.mu.Unlock()
		m.put(m.sys.at("class/block", name, "diskseq"), fmt.Sprintln(seq))
		m.put(m.sys.at("class/block", name, "place"), place)
		m.link(m.sys.at("class/block", name), m.sys.at(scsiDevices, place, "device/block", name))
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, c := range m.events {
			c <- block.Event{Action: "add", Name: name}
		}
	}
	if late == 0 {
		disk()
	} else {
		go func() { time.Sleep(late); disk() }()
	}
}

// page writes what the kernel remembers of a disk.
func (m *machine) page(place string, s shown) {
	m.mu.Lock()
	if o, ok := m.wrong[place]; ok {
		s = o
	}
	m.mu.Unlock()
	b, err := lun.EncodePage83([]lun.StorageID{
		{CodeSet: lun.CodeSetASCII, Type: lun.IDVendorID, Identifier: []byte("UMBRA   FILE LUN:0")}, s.naa.StorageID()})
	if err != nil {
		m.t.Error(err)
	}
	m.put(m.sys.at(scsiDevices, place, "device/vpd_pg83"), string(b))
	m.put(m.sys.at(scsiDevices, place, "device/size"), fmt.Sprint(s.size))
	m.put(m.sys.at(scsiDevices, place, "device/ro"), fmt.Sprint(s.readOnly))
}

func (m *machine) drop(place string) {
	if n := m.sys.disk(place); n != "" {
		os.RemoveAll(m.sys.at("class/block", n))
	}
	os.RemoveAll(m.sys.at(scsiDevices, place))
}

func (m *machine) inspect(_ context.Context, name string) (block.Device, error) {
	place := m.sys.attr("class/block", name, "place")
	if paths := m.sys.names("class/block", name, "slaves"); len(paths) > 0 {
		d, err := m.inspect(context.Background(), paths[0])
		d.Name, d.Path, d.DiskSeq, d.Multipath = name, "/dev/"+name, 99, true
		return d, err
	}
	if place == "" {
		return block.Device{}, &vss.Error{Code: vss.VSS_E_OBJECT_NOT_FOUND, Object: name}
	}
	d := block.Device{Name: name, Path: "/dev/" + name, ReadOnly: m.sys.attr(scsiDevices, place, "device/ro") == "true"}
	_, _ = fmt.Sscan(m.sys.attr(scsiDevices, place, "device/size"), &d.Size)
	_, _ = fmt.Sscan(m.sys.attr("class/block", name, "diskseq"), &d.DiskSeq)
	if ids, ok := m.sys.identity(place); ok {
		d.LUN = lun.Info{Version: lun.InfoVersion, StorageIDs: []lun.StorageID{ids[0].StorageID()}}
	}
	return d, nil
}

func (m *machine) watch(context.Context) (<-chan block.Event, func(), error) {
	c := make(chan block.Event, 64)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, c)
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.events = slices.DeleteFunc(m.events, func(o chan block.Event) bool { return o == c })
		close(c)
	}, nil
}

func (m *machine) flush(_ context.Context, dev block.Device) (func(), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, "flush "+dev.Name)
	return func() {}, m.claimed
}

// did returns and forgets what iscsiadm and the kernel were told.
func (m *machine) did() (said, told []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	said, told = m.said, m.told
	m.said, m.told = nil, nil
	return said, told
}

func naa(tail byte) lun.NAA { return lun.NAA{0x60, 0x01, 0x40, 0x5a, 15: tail} }

func infos(naas ...lun.NAA) (out []lun.Info) {
	for _, n := range naas {
		out = append(out, lun.Info{Version: lun.InfoVersion, StorageIDs: []lun.StorageID{n.StorageID()}})
	}
	return out
}

// taker is multipathd, whose method has the name of another of machine's.
type taker struct{ *machine }

func (t taker) flush(_ context.Context, name string) error { return t.takeApart(name, "flush") }
func (t taker) fail(_ context.Context, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = append(t.told, "fail "+name)
	return nil
}
