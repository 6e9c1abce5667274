package nvme

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

const (
	fabricsNode = "/dev/nvme-fabrics"

	// How long I/O waits for an array that is away, and how long the kernel
	// tries to connect again; in seconds.
	failTimeout = 120
	lossTimeout = 24 * 3600
)

// hostID is the identifier that goes with a host's name. The kernel wants one
// for each, always the same.
func hostID(host string) string {
	sum := sha256.Sum256([]byte("umbra nvme host " + host))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // a UUID of version 8
	d := hex.EncodeToString(sum[:16])
	return strings.Join([]string{d[:8], d[8:12], d[12:16], d[16:20], d[20:]}, "-")
}

// options are what the kernel is told to connect to a portal.
func (i *Initiator) options(portal string) (string, error) {
	host, port, err := net.SplitHostPort(portal)
	if err != nil {
		return "", i.failed(i.credentials.Target, "the array names a portal that is no address: "+portal, "Give the array's --nvme-portal as ADDRESS:PORT", err)
	}
	c := i.credentials
	o := []string{"nqn=" + c.Target, "transport=tcp", "traddr=" + host, "trsvcid=" + port, "hostnqn=" + c.Host, "hostid=" + hostID(c.Host),
		fmt.Sprintf("ctrl_loss_tmo=%d", lossTimeout), fmt.Sprintf("fast_io_fail_tmo=%d", failTimeout), "reconnect_delay=2", "keep_alive_tmo=5"}
	// A kernel that cannot prove anything connects without, and is refused if
	// the array's asks for a proof.
	known := i.offers()
	for _, s := range []struct{ name, value string }{{"dhchap_secret", c.Secret}, {"dhchap_ctrl_secret", c.TargetSecret}} {
		if s.value != "" && strings.Contains(known, s.name+"=") {
			o = append(o, s.name+"="+s.value)
		}
	}
	for _, x := range o {
		if strings.ContainsAny(x, ",\n") {
			return "", i.failed(c.Target, "what this host was given to connect with has a comma in it", "Join the array again with umbra join", nil)
		}
	}
	return strings.Join(o, ","), nil
}

// connect sees to it that there is a connection: the one that is, or a new one,
// to every portal if the kernel makes one disk of several paths, else to the
// first that lets us.
func (i *Initiator) connect(ctx context.Context, portals []string) error {
	i.dropOutdated(ctx)
	here := i.sys.controllers(i.credentials)
	live := func() bool {
		return slices.ContainsFunc(i.sys.controllers(i.credentials), func(c controller) bool { return c.state == "live" })
	}
	ok := live()
	multipath := i.sys.attr("module/nvme_core/parameters/multipath") == "Y"
	if ok && !multipath {
		return nil
	}
	var errs []error
	for _, p := range portals {
		if slices.ContainsFunc(here, func(c controller) bool { return c.portal == p }) {
			continue // it is there, or the kernel is mending it
		}
		if len(here) > 0 && !multipath {
			break
		}
		o, err := i.options(p)
		if err == nil {
			err = i.dial(ctx, p)
		}
		if err == nil {
			if err = i.fabrics(ctx, o); errors.Is(err, unix.EALREADY) {
				err = nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			errs = append(errs, i.explain(p, err))
			continue
		}
		ok = true
		if !multipath {
			break
		}
	}
	switch {
	case ok:
		return nil
	case len(here) > 0:
		return i.awaitLive(ctx, live)
	case len(errs) == 0:
		return i.failed(i.credentials.Target, "the array names no portal", "Start the array with --nvme-portal", nil)
	}
	return vss.Join(attachOp, errs...)
}

// dropOutdated ends connections that the kernel cannot mend, because the host
// has another secret by now.
func (i *Initiator) dropOutdated(ctx context.Context) {
	for _, c := range i.sys.controllers(i.credentials) {
		if has := i.sys.attr("class/nvme", c.name, "dhchap_secret"); c.state != "live" && strings.HasPrefix(has, "DHHC-") && has != i.credentials.Secret {
			_ = i.sys.tell(ctx, "1", "class/nvme", c.name, "delete_controller")
		}
	}
}

// awaitLive waits for a connection that the kernel mends. Nothing that we could
// listen to announces it.
func (i *Initiator) awaitLive(ctx context.Context, live func() bool) error {
	deadline := time.Now().Add(i.patience)
	for !live() {
		if time.Now().After(deadline) {
			return i.failed(i.credentials.Target, "the connection to the array is down", "Check the network to the array; the kernel connects again by itself", nil)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// explain turns the kernel's answer into one with a remedy.
func (i *Initiator) explain(portal string, err error) error {
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: attachOp, Object: i.credentials.Target + " at " + portal, Reason: "the kernel does not connect", Remedy: "Look at the kernel log", Err: err}
	var n *net.OpError
	switch {
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EACCES), errors.Is(err, unix.EKEYREJECTED), errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EINVAL):
		// The kernel's answer to a refusal is an I/O error; why is in its log.
		e.Code, e.Reason = vss.E_ACCESSDENIED, "the array refused this host, or did not prove to be the array that it joined"
		e.Remedy = "Look at the kernel log; then run `umbra array enroll` for this host on the array and `umbra join` here"
	case errors.Is(err, os.ErrNotExist):
		e.Code, e.Reason, e.Remedy = vss.VSS_E_NOT_SUPPORTED, "this kernel has no NVMe/TCP initiator, or it is not loaded", "Run modprobe nvme_tcp as root"
	case errors.As(err, &n), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		e.Reason = "the array's portal does not answer"
		e.Remedy = "Check that the array runs, that the network leads to its --nvme-portal, and that no firewall is between"
	}
	var v *vss.Error
	if errors.As(err, &v) {
		return err
	}
	return e
}

// dial asks whether a portal answers. The kernel, which is asked next, cannot be
// told to give up.
func dial(ctx context.Context, portal string) error {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", portal)
	if err != nil {
		return err
	}
	return c.Close()
}

// offers are the options that the kernel takes, as it says itself.
func offers() string {
	b, _ := os.ReadFile(fabricsNode)
	return string(b)
}

// fabrics connects: the kernel takes the options and answers when it is done.
func fabrics(ctx context.Context, options string) error {
	done := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(fabricsNode, os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteString(options) // in one write
			err = errors.Join(err, f.Close())
		}
		var p *os.PathError
		if errors.As(err, &p) && p.Op == "write" {
			err = p.Err // the options would be in the text, and a secret among them
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave ends connections without disks. It is no error if it fails: an idle
// connection does no harm, and the next disk uses it.
func (i *Initiator) leave(ctx context.Context) {
	if len(i.sys.disks(i.credentials.Target)) > 0 {
		return
	}
	i.end(ctx)
}

// end ends this host's connections.
func (i *Initiator) end(ctx context.Context) {
	for _, c := range i.sys.controllers(i.credentials) {
		_ = i.sys.tell(ctx, "1", "class/nvme", c.name, "delete_controller")
	}
}
