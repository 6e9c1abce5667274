package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/umbra-vss/umbra/test/lab/wire"
	"github.com/umbra-vss/umbra/vss"
)

// Machine is one virtual machine.
type Machine struct {
	Name     string
	lab      *Lab
	number   int
	kind     string    // its role, and whether it has systemd
	template *template // what it begins with whenever it is switched on; nil if it boots
	first    *template // what it begins with the first time, if that is another
	becomes  *template // what comes of it, if it is to be a template

	mu        sync.Mutex
	control   *control // nil while it is off
	gone      chan struct{}
	pid       int
	qemu      *monitor            // if it is to be a template
	processes map[string]*Process // by name
}

// diskSize is what a disk could hold; what it does not hold takes no
// room.
const diskSize = 8 << 30

// Address is the machine's address in the lab's network.
func (m *Machine) Address() string { return fmt.Sprintf("10.77.0.%d", m.number) }

func (m *Machine) mac() string { return fmt.Sprintf("52:54:00:4c:42:%02x", m.number) }

// roleOf is what a machine of a name is.
func roleOf(name string) string {
	if strings.HasPrefix(name, "array") {
		return "array"
	}
	return "host"
}

func (m *Machine) file(kind string) string { return filepath.Join(m.lab.dir, m.Name+"."+kind) }

func (m *Machine) console() string { return filepath.Join(m.lab.logs, m.Name+"-console.log") }

func (m *Machine) role() string { return strings.TrimSuffix(m.kind, systemd) }

func (m *Machine) hasSystemd() bool { return strings.HasSuffix(m.kind, systemd) }

// disks are what outlives the machine's power, by name, in the order of /dev/vda
// and so on.
func (m *Machine) disks() (names []string) {
	if m.role() == "array" {
		names = append(names, "store")
	}
	if m.hasSystemd() {
		names = append(names, "state")
	}
	return names
}

// prepare makes the machine's disks.
func (m *Machine) prepare() error {
	for _, d := range m.disks() {
		if m.first != nil {
			if err := copyFile(m.file(d), m.first.disks[d]); err != nil {
				return err
			}
			continue
		}
		if err := os.WriteFile(m.file(d), nil, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(m.file(d), diskSize); err != nil {
			return err
		}
	}
	return nil
}

// up is a machine that runs.
type up struct {
	control *control
	monitor net.Conn // QEMU's own; nil if the machine boots, and is to be no template
	qemu    *monitor // on it
	cable   net.Conn
	gone    chan struct{}
}

// powerOn starts the machine and returns when it listens.
func (m *Machine) powerOn(ctx context.Context) error {
	from, who := m.template, m.who()
	if m.first != nil {
		from, who.Already = m.first, true
		m.first = nil
	}
	u, err := m.boot(ctx, from)
	if err == nil {
		m.lab.hub.plug(m.mac(), u.cable)
		if err = u.control.become(ctx, who); err != nil {
			m.kill(u.gone)
		}
	}
	if u.monitor != nil && m.becomes == nil {
		u.monitor.Close()
	}
	if err != nil {
		return fmt.Errorf("%s does not start: %w\n%s", m.Name, err, tail(m.console(), 30))
	}
	m.mu.Lock()
	m.control, m.gone, m.qemu = u.control, u.gone, u.qemu
	m.mu.Unlock()
	return nil
}

// boot boots the machine, or lets it go on from a template, and returns when it
// listens.
func (m *Machine) boot(ctx context.Context, from *template) (u up, err error) {
	patience := bootTime
	if m.hasSystemd() && from == nil {
		patience *= 2 // it takes thrice as long
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ports := map[string]net.Listener{}
	for _, kind := range []string{"control", "net", "monitor"} {
		l, err := net.Listen("unix", m.file(kind))
		if err != nil {
			return up{}, err
		}
		defer l.Close() // and the socket's file is gone
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		ports[kind] = l
	}
	if u.gone, err = m.launch(from); err != nil {
		return up{}, err
	}
	go func() {
		select {
		case <-u.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() {
		if err != nil {
			m.kill(u.gone)
		}
	}()
	if u.cable, err = ports["net"].Accept(); err != nil {
		return up{}, err
	}
	if from != nil || m.becomes != nil {
		if u.monitor, err = ports["monitor"].Accept(); err != nil {
			return up{}, err
		}
	}
	line, err := ports["control"].Accept()
	if err != nil {
		return up{}, err
	}
	if u.monitor != nil {
		if u.qemu, err = monitorOf(u.monitor); err != nil {
			return up{}, err
		}
	}
	if from == nil {
		u.control, err = dial(ctx, line)
		return u, err
	}
	if m.processes, err = m.inherit(from); err != nil {
		return up{}, err
	}
	running := map[uint32]*running{}
	for _, p := range m.processes {
		running[p.id] = p.r
	}
	if err = awake(ctx, u.qemu, from); err != nil {
		return up{}, err
	}
	u.control = controlOf(line, from.last, running)
	for _, p := range m.processes {
		p.c = u.control
	}
	return u, nil
}

// who is what it is told to be.
func (m *Machine) who() wire.Machine {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for _, name := range m.lab.order {
		fmt.Fprintf(&hosts, "%s %s\n", m.lab.machines[name].Address(), name)
	}
	seed := make([]byte, 64)
	_, _ = rand.Read(seed) // never fails
	return wire.Machine{Name: m.Name, Hardware: m.mac(), Address: m.Address() + "/24", Hosts: hosts.String(), Time: time.Now(), Seed: seed, BootID: vss.NewID().Bare()}
}

// launch starts QEMU. It has to die with this process, and the kernel sees to
// that when the thread that started it ends: so a thread is kept for it.
func (m *Machine) launch(from *template) (gone chan struct{}, err error) {
	out, err := os.OpenFile(filepath.Join(m.lab.logs, m.Name+"-qemu.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	// A machine gives way to everything else here, and to tests of time first.
	cmd := exec.Command("nice", slices.Concat([]string{"-n", "10"}, m.lab.image.QEMU, m.arguments(from))...)
	cmd.Env = append(os.Environ(), m.lab.image.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	gone = make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer out.Close()
		err := cmd.Start()
		if err == nil {
			m.mu.Lock()
			m.pid = cmd.Process.Pid
			m.mu.Unlock()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(gone)
		}
	}()
	return gone, <-started
}

func (m *Machine) arguments(from *template) []string {
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-cpu", "max", "-smp", "1", "-m", "512"}
	if from == nil && m.becomes == nil {
		args = append(args, "-machine", "q35")
	} else {
		memory, shared := from, "off"
		if m.becomes != nil {
			memory, shared = m.becomes, "on"
		}
		args = append(args, "-machine", "q35,memory-backend=ram", "-object", "memory-backend-file,id=ram,size=512M,share="+shared+",mem-path="+path(memory.memory),
			"-chardev", "socket,id=monitor,path="+m.file("monitor"), "-mon", "chardev=monitor,mode=control")
	}
	if from != nil {
		args = append(args, "-incoming", "defer")
	}
	if kvm() {
		args = append(args, "-accel", "kvm")
	}
	first := ""
	if m.hasSystemd() {
		first = " lab.first=systemd systemd.unit=lab.target systemd.show_status=0 systemd.log_target=journal"
	}
	args = append(args, "-accel", "tcg,thread=multi",
		"-kernel", m.lab.image.Kernel, "-initrd", m.lab.image.Initrd,
		"-append", strings.Join([]string{"console=ttyS0 quiet loglevel=5 oops=panic panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr edd=off random.trust_cpu=on",
			"lab.role=" + m.role() + first}, " "),
		"-chardev", "file,id=console,append=on,path="+m.console(), "-serial", "chardev:console",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=control,path="+m.file("control"), "-device", "virtserialport,chardev=control,name=umbra.lab",
		"-netdev", "stream,id=net,server=off,addr.type=unix,addr.path="+m.file("net"),
		"-device", "virtio-net-pci,netdev=net,romfile=,host_mtu="+fmt.Sprint(mtu)+",mac="+m.mac())
	for _, d := range m.disks() {
		args = append(args, "-drive", "if=none,id="+d+",format=raw,cache=unsafe,discard=unmap,file="+m.file(d), "-device", "virtio-blk-pci,drive="+d+",serial="+d)
	}
	return args
}

// kvm reports whether the processor can run guests itself. That /dev/kvm opens
// is not enough: there are machines where it does and no guest ever starts.
func kvm() bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !strings.Contains(string(info), " vmx") && !strings.Contains(string(info), " svm") {
		return false
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	return err == nil && f.Close() == nil
}

// PowerOff pulls the machine's plug. Its disk stays.
func (m *Machine) PowerOff() {
	m.stop()
	m.lab.t.Logf("%s is off", m.Name)
}

// WaitOff waits until the machine, which was told to end, is off, and ends the test
// if it takes more than two minutes. One that is to start again is off, too.
func (m *Machine) WaitOff() {
	m.lab.t.Helper()
	m.mu.Lock()
	gone := m.gone
	m.mu.Unlock()
	if gone == nil {
		return
	}
	select {
	case <-gone:
	case <-time.After(patience):
		m.lab.t.Fatalf("%s does not end:\n%s", m.Name, tail(m.console(), 40))
	}
	m.stop()
}

// PowerOn starts it again, as it was the first time but for its disk.
func (m *Machine) PowerOn() {
	m.lab.t.Helper()
	if err := m.powerOn(m.lab.t.Context()); err != nil {
		m.lab.t.Fatal(err)
	}
}

func (m *Machine) stop() {
	m.mu.Lock()
	c, gone := m.control, m.gone
	m.control, m.gone = nil, nil
	m.mu.Unlock()
	if gone == nil {
		return
	}
	m.kill(gone)
	c.close(errors.New("the machine is off"))
	m.lab.hub.unplug(m.mac())
}

func (m *Machine) kill(gone chan struct{}) {
	m.mu.Lock()
	pid := m.pid
	m.mu.Unlock()
	select {
	case <-gone:
		return
	default:
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		m.lab.t.Errorf("QEMU of %s (process %d) does not end", m.Name, pid)
	}
}
