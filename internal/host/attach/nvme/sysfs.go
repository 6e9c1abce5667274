package nvme

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
)

// sysfs is the kernel's description of its devices.
type sysfs struct {
	root  string                         // "/sys"
	write func(path, value string) error // what the kernel is told
}

func (s sysfs) at(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	return err
}

func (s sysfs) attr(parts ...string) string {
	b, err := os.ReadFile(s.at(parts...))
	if err != nil {
		return "" // gone, or never there
	}
	return strings.TrimSpace(string(b))
}

func (s sysfs) names(parts ...string) []string {
	entries, err := os.ReadDir(s.at(parts...))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// tell acts on a device. The kernel answers when it is done; who gives up leaves
// it to itself.
func (s sysfs) tell(ctx context.Context, value string, parts ...string) error {
	done := make(chan error, 1)
	go func() { done <- s.write(s.at(parts...), value) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// controller is a connection.
type controller struct {
	name   string // "nvme0"
	state  string // "live", "connecting" …
	portal string
}

// controllers are this host's at the subsystem, but for those that are going.
func (s sysfs) controllers(c Credentials) (out []controller) {
	const class = "class/nvme"
	for _, name := range s.names(class) {
		state := s.attr(class, name, "state")
		if s.attr(class, name, "subsysnqn") != c.Target || s.attr(class, name, "hostnqn") != c.Host || strings.HasPrefix(state, "deleting") || state == "dead" {
			continue
		}
		var host, port string
		for field := range strings.SplitSeq(s.attr(class, name, "address"), ",") {
			switch key, value, _ := strings.Cut(field, "="); key {
			case "traddr":
				host = value
			case "trsvcid":
				port = value
			}
		}
		out = append(out, controller{name, state, net.JoinHostPort(host, port)})
	}
	return out
}

// disk is a namespace that the kernel has.
type disk struct {
	name   string // "nvme0n1"; not its number
	number uint64
	wwid   string
	known  bool // by its names it is a LUN of an Umbra array
	lun    lun.NAA
}

// disks are the subsystem's. Single paths of a multipath disk are hidden and not
// among them.
func (s sysfs) disks(target string) (out []disk) {
	const class = "class/block"
	for _, name := range s.names(class) {
		if !strings.HasPrefix(name, "nvme") || s.attr(class, name, "hidden") == "1" || s.attr(class, name, "device/subsysnqn") != target {
			continue
		}
		number, err := strconv.ParseUint(s.attr(class, name, "nsid"), 10, 32)
		if err != nil {
			continue // a partition, or going
		}
		d := disk{name: name, number: number, wwid: s.attr(class, name, "wwid")}
		nguid, _ := identity.ParseGUID(s.attr(class, name, "nguid"))
		uuid, _ := identity.ParseGUID(s.attr(class, name, "uuid"))
		d.lun, d.known = identity.OfNamespace(nguid, uuid)
		out = append(out, d)
	}
	return out
}
