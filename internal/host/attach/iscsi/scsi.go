package iscsi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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

// tell acts on a device. The kernel answers when it is done, which may be when a
// session that is down has timed out; who gives up leaves it to itself.
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

// session is a login at one portal of the target.
type session struct {
	name   string // "session3"
	id     string // what iscsiadm calls it: "3"
	portal string // where it is to be, "192.0.2.1:3260"; "" where the kernel does not say
	host   int    // SCSI host
	target int    // SCSI target on it
}

// sessions are those of this initiator at the target.
func (s sysfs) sessions(target, initiator string) []session {
	const class = "class/iscsi_session"
	var out []session
	for _, name := range s.names(class) {
		if s.attr(class, name, "targetname") != target || s.attr(class, name, "initiatorname") != initiator {
			continue
		}
		real, err := filepath.EvalSymlinks(s.at(class, name))
		if err != nil {
			continue
		}
		for _, part := range strings.Split(real, "/") {
			host, found := strings.CutPrefix(part, "host")
			n, err := strconv.Atoi(host)
			if !found || err != nil {
				continue
			}
			id, _ := strconv.Atoi(s.attr(class, name, "target_id")) // 0 for software iSCSI, also where the kernel does not say
			x := session{name: name, id: strings.TrimPrefix(name, "session"), host: n, target: id}
			x.portal = s.portal(x.id)
			out = append(out, x)
			break
		}
	}
	return out
}

// portal is where a session's connection is to lead. Of where it leads now the
// kernel knows nothing while it is down.
func (s sysfs) portal(id string) string {
	const class = "class/iscsi_connection"
	address, port := s.attr(class, "connection"+id+":0", "persistent_address"), s.attr(class, "connection"+id+":0", "persistent_port")
	if address == "" {
		return ""
	}
	return spell(net.JoinHostPort(address, port))
}

// spell writes a portal in the one way that two can be compared in.
func spell(portal string) string {
	if p, err := netip.ParseAddrPort(portal); err == nil {
		return net.JoinHostPort(p.Addr().Unmap().String(), strconv.Itoa(int(p.Port())))
	}
	return portal
}

func (s sysfs) loggedIn(x session) bool {
	return s.attr("class/iscsi_session", x.name, "state") == "LOGGED_IN"
}

// place is a LUN number of a session, as the kernel names it.
func (x session) place(number uint64) string {
	return fmt.Sprintf("%d:0:%d:%d", x.host, x.target, number)
}

const scsiDevices = "class/scsi_device"

// places are those of a session at which the kernel has a device.
func (s sysfs) places(x session) []string {
	prefix := fmt.Sprintf("%d:", x.host)
	return slices.DeleteFunc(s.names(scsiDevices), func(p string) bool { return !strings.HasPrefix(p, prefix) })
}

func (s sysfs) has(place string) bool {
	_, err := os.Stat(s.at(scsiDevices, place, "device"))
	return err == nil
}

// disk is the block device at a place; "" until the kernel has made one.
func (s sysfs) disk(place string) string {
	if n := s.names(scsiDevices, place, "device/block"); len(n) > 0 {
		return n[0]
	}
	return ""
}

// mapOf is the multipath map that has a disk as a path; "" if none has.
func (s sysfs) mapOf(disk string) string {
	for _, holder := range s.names("class/block", disk, "holders") {
		if strings.HasPrefix(s.attr("class/block", holder, "dm/uuid"), "mpath-") {
			return holder
		}
	}
	return ""
}

// is reports whether the kernel's copy of page 0x83 has the identifier.
func (s sysfs) is(place string, naa lun.NAA) bool {
	got, ok := s.identity(place)
	return ok && slices.Contains(got, naa)
}

func (s sysfs) identity(place string) (naas []lun.NAA, ok bool) {
	b, err := os.ReadFile(s.at(scsiDevices, place, "device/vpd_pg83"))
	if err != nil {
		return nil, false
	}
	ids, err := lun.ParsePage83(b)
	if err != nil {
		return nil, false
	}
	for _, id := range ids {
		if naa, ok := (lun.Info{StorageIDs: []lun.StorageID{id}}).NAA(); ok {
			naas = append(naas, naa)
		}
	}
	return naas, len(naas) > 0
}

// look has the kernel look at one place.
func (s sysfs) look(ctx context.Context, x session, number uint64) error {
	return s.tell(ctx, fmt.Sprintf("0 %d %d", x.target, number), "class/scsi_host", fmt.Sprintf("host%d", x.host), "scan")
}

// refresh has the kernel ask a device for its identity, size and write
// protection again.
func (s sysfs) refresh(ctx context.Context, place string) error {
	return s.tell(ctx, "1", scsiDevices, place, "device/rescan")
}

// remove has the kernel forget a device, whoever uses it.
func (s sysfs) remove(ctx context.Context, place string) error {
	err := s.tell(ctx, "1", scsiDevices, place, "device/delete")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
