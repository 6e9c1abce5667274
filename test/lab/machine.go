package lab

import (
	"context"
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
)

// Machine is one virtual machine.
type Machine struct {
	Name   string
	lab    *Lab
	number int

	mu      sync.Mutex
	control *control // nil while it is off
	gone    chan struct{}
	pid     int
}

// diskSize is what an array's disk could hold; what it does not hold takes no
// room.
const diskSize = 8 << 30

// Address is the machine's address in the lab's network.
func (m *Machine) Address() string { return fmt.Sprintf("10.77.0.%d", m.number) }

func (m *Machine) mac() string { return fmt.Sprintf("52:54:00:4c:42:%02x", m.number) }

func (m *Machine) role() string {
	if strings.HasPrefix(m.Name, "array") {
		return "array"
	}
	return "host"
}

func (m *Machine) file(kind string) string { return filepath.Join(m.lab.dir, m.Name+"."+kind) }

func (m *Machine) console() string { return filepath.Join(m.lab.logs, m.Name+"-console.log") }

// prepare makes what outlives the machine's power: its disk.
func (m *Machine) prepare() error {
	if m.role() != "array" {
		return nil
	}
	if err := os.WriteFile(m.file("disk"), nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(m.file("disk"), diskSize)
}

// powerOn starts the machine and returns when it listens.
func (m *Machine) powerOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	ports := map[string]net.Listener{}
	for _, kind := range []string{"control", "net"} {
		l, err := net.Listen("unix", m.file(kind))
		if err != nil {
			return err
		}
		defer l.Close() // and the socket's file is gone
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		ports[kind] = l
	}
	gone, err := m.launch()
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	fail := func(err error) error {
		m.kill(gone)
		return fmt.Errorf("%s does not start: %w\n%s", m.Name, err, tail(m.console(), 30))
	}
	cable, err := ports["net"].Accept()
	if err != nil {
		return fail(err)
	}
	m.lab.hub.plug(m.mac(), cable)
	line, err := ports["control"].Accept()
	if err != nil {
		return fail(err)
	}
	c, err := dial(ctx, line)
	if err != nil {
		return fail(err)
	}
	m.mu.Lock()
	m.control, m.gone = c, gone
	m.mu.Unlock()
	return m.introduce(ctx)
}

// introduce tells the machine the others' names.
func (m *Machine) introduce(ctx context.Context) error {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for _, name := range m.lab.order {
		fmt.Fprintf(&hosts, "%s %s\n", m.lab.machines[name].Address(), name)
	}
	return m.Push(ctx, []byte(hosts.String()), "/etc/hosts", 0o644)
}

// launch starts QEMU. It has to die with this process, and the kernel sees to
// that when the thread that started it ends: so a thread is kept for it.
func (m *Machine) launch() (gone chan struct{}, err error) {
	out, err := os.OpenFile(filepath.Join(m.lab.logs, m.Name+"-qemu.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	// A machine gives way to everything else here, and to tests of time first.
	cmd := exec.Command("nice", slices.Concat([]string{"-n", "10"}, m.lab.image.QEMU, m.arguments())...)
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

func (m *Machine) arguments() []string {
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-cpu", "max", "-smp", "1", "-m", "512"}
	if kvm() {
		args = append(args, "-accel", "kvm")
	}
	args = append(args, "-accel", "tcg,thread=multi",
		"-kernel", m.lab.image.Kernel, "-initrd", m.lab.image.Initrd,
		"-append", strings.Join([]string{"console=ttyS0 quiet loglevel=5 oops=panic panic=-1 mitigations=off tsc=reliable nokaslr edd=off random.trust_cpu=on",
			"lab.name=" + m.Name, "lab.role=" + m.role(), "lab.address=" + m.Address() + "/24"}, " "),
		"-chardev", "file,id=console,append=on,path="+m.console(), "-serial", "chardev:console",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=control,path="+m.file("control"), "-device", "virtserialport,chardev=control,name=umbra.lab",
		"-netdev", "stream,id=net,server=off,addr.type=unix,addr.path="+m.file("net"),
		"-device", "virtio-net-pci,netdev=net,romfile=,host_mtu="+fmt.Sprint(mtu)+",mac="+m.mac())
	if m.role() == "array" {
		args = append(args, "-drive", "if=none,id=disk,format=raw,cache=unsafe,discard=unmap,file="+m.file("disk"), "-device", "virtio-blk-pci,drive=disk,serial=store")
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
