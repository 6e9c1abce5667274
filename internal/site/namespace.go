package site

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// namespace is a mount and a network namespace, kept alive by a holder.
type namespace struct {
	name   string
	holder *exec.Cmd
	pipe   io.Closer // closing it ends the holder
}

// holderScript is the holder: it lets go of what the copied mount table pins
// of tests that run beside us, in /tmp (a loop device whose filesystem they
// unmount could not be detached while our copy of the mount lives), says that
// it is there, and ends when its input does, which is when we do.
const holderScript = `while read -r dev point rest; do
	case $dev:$point in /dev/loop*:/tmp/*) umount -l "$(printf %b "$point")" ;; esac
done </proc/self/mounts
echo ready
exec cat`

// newNamespace starts the holder. It must exist before anything is mounted:
// a copy of the mount table made later would pin superblocks and devices.
func newNamespace(name string) (*namespace, error) {
	cmd := exec.Command("sh", "-c", holderScript)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("namespaces of %s: %w", name, err)
	}
	n := &namespace{name, cmd, pipe}
	if _, err := io.ReadFull(said, make([]byte, len("ready\n"))); err != nil {
		n.close()
		return nil, fmt.Errorf("namespaces of %s: the holder did not start: %w", name, err)
	}
	return n, nil
}

func (n *namespace) pid() int { return n.holder.Process.Pid }

// root is the namespace's file tree as this process can open it.
func (n *namespace) root(path string) string {
	return "/proc/" + strconv.Itoa(n.pid()) + "/root" + path
}

// command runs a program inside the namespaces.
func (n *namespace) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	full := append([]string{"--mount", "--net", "--target", strconv.Itoa(n.pid()), "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", full...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C goes to us alone; we end our children in order
	return cmd
}

func (n *namespace) close() {
	_ = n.pipe.Close()
	_ = n.holder.Wait()
}

// handle is a netlink handle inside the network namespace.
func (n *namespace) handle() (*netlink.Handle, netns.NsHandle, error) {
	ns, err := netns.GetFromPid(n.pid())
	if err != nil {
		return nil, ns, err
	}
	runtime.LockOSThread() // NewHandleAt visits the namespace on this thread
	defer runtime.UnlockOSThread()
	h, err := netlink.NewHandleAt(ns)
	return h, ns, err
}

// up gives the namespace its loopback.
func (n *namespace) up() error {
	h, ns, err := n.handle()
	if err != nil {
		return err
	}
	defer ns.Close()
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.LinkSetUp(lo)
}

// bridgeAddr is locally administered.
var bridgeAddr = net.HardwareAddr{0x02, 0, 0, 0x5a, 0x4e, 0}

// bridge makes the array's bridge with its address.
func (n *namespace) bridge(addr string) error {
	h, ns, err := n.handle()
	if err != nil {
		return err
	}
	defer ns.Close()
	defer h.Close()
	// With an address of its own: a bridge without one takes the lowest of its
	// ports, and when a host that comes later brings a lower one, the others
	// send into the void until their neighbour entries expire.
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "san0", HardwareAddr: bridgeAddr}}
	if err := h.LinkAdd(br); err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	if err := h.AddrAdd(br, a); err != nil {
		return err
	}
	return h.LinkSetUp(br)
}

// connect joins host to the bridge in n by a veth pair. It returns when both
// ends are up.
func (n *namespace) connect(host *namespace, port int, addr string) error {
	h, ns, err := n.handle()
	if err != nil {
		return err
	}
	defer ns.Close()
	defer h.Close()
	br, err := h.LinkByName("san0")
	if err != nil {
		return err
	}
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port" + strconv.Itoa(port), MasterIndex: br.Attrs().Index}, PeerName: "san", PeerNamespace: netlink.NsPid(host.pid())}
	if err := h.LinkAdd(v); err != nil {
		return err
	}
	if err := h.LinkSetUp(v); err != nil {
		return err
	}
	hh, hns, err := host.handle()
	if err != nil {
		return err
	}
	defer hns.Close()
	defer hh.Close()
	peer, err := hh.LinkByName("san")
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	if err := hh.AddrAdd(peer, a); err != nil {
		return err
	}
	return hh.LinkSetUp(peer)
}
