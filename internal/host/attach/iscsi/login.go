package iscsi

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// iscsiadm's exit codes that say something we can act on.
const (
	exitConnect       = 4
	exitTimeout       = 8
	exitNoTransport   = 12
	exitSessionExists = 15
	exitFatalLogin    = 19
	exitNoDaemon      = 20
	exitNothingFound  = 21
	exitRefused       = 24
)

// exited is what iscsiadm ended with.
type exited struct {
	code int
	said string
}

func (e exited) Error() string { return "iscsiadm: " + e.said }

// iscsiadm runs the program.
func iscsiadm(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "iscsiadm", args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	var x *exec.ExitError
	if errors.As(err, &x) {
		return "", exited{x.ExitCode(), lastLine(string(out))}
	}
	return string(out), err
}

// lastLine is what went wrong in the words of iscsiadm, which says first what
// it was going to do.
func lastLine(s string) string {
	var said string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "iscsiadm: initiator reported error") || said == "" && l != "" {
			said = strings.TrimPrefix(l, "iscsiadm: ")
		}
	}
	return said
}

// explain turns iscsiadm's error into one with a remedy.
func (i *Initiator) explain(ctx context.Context, object string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, exec.ErrNotFound) {
		return noOpenISCSI(err)
	}
	var x exited
	if !errors.As(err, &x) {
		return i.failed(object, "iscsiadm cannot be run", "Check that open-iscsi is installed whole", err)
	}
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: attachOp, Object: object, Reason: "open-iscsi could not do it", Remedy: "Look at the log of iscsid (journalctl -u iscsid)", Err: err}
	switch x.code {
	case exitRefused:
		e.Code, e.Reason = vss.E_ACCESSDENIED, "the array refused the login"
		e.Remedy = "Run `umbra array enroll` for this host on the array and `umbra join` here"
	case exitFatalLogin: // what a wrong answer to our challenge gives
		e.Code, e.Reason = vss.E_ACCESSDENIED, "the target did not prove to be the array that this host joined"
		e.Remedy = "Check whose the array's portal is; if it is the array's, run `umbra array enroll` for this host there and `umbra join` here"
	case exitConnect, exitTimeout:
		e.Reason = "the array's portal does not answer"
		e.Remedy = "Check that the array runs, that the network leads to its --iscsi-portal, and that no firewall is between"
	case exitNoTransport:
		e.Code, e.Reason, e.Remedy = vss.VSS_E_NOT_SUPPORTED, "this kernel has no iSCSI initiator", "Run modprobe iscsi_tcp as root"
	case exitNoDaemon:
		e.Reason, e.Remedy = "iscsid does not run", "Start it (systemctl enable --now iscsid)"
	}
	return e
}

func noOpenISCSI(err error) error {
	return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: attachOp, Object: "iscsiadm", Reason: "open-iscsi is not installed", Remedy: "Install it (apt install open-iscsi)", Err: err}
}

// session finds a session at the target, or logs in: at the first portal that
// lets us. One that is being mended by iscsid is waited for, unless that cannot
// succeed because the host has other secrets by now.
func (i *Initiator) session(ctx context.Context, target string, portals []string) (session, error) {
	if s, ok := i.live(target); ok {
		return s, nil
	}
	if down := i.sys.sessions(target, i.credentials.Initiator); len(down) > 0 {
		changed := false
		for _, p := range portals {
			c, err := i.prepare(ctx, target, p)
			if err != nil {
				return session{}, err
			}
			changed = changed || c
		}
		if !changed {
			return i.awaitSession(ctx, target)
		}
		for _, s := range down {
			if _, err := i.run(ctx, "-m", "session", "-r", s.id, "--logout"); err != nil {
				return session{}, i.explain(ctx, target, err)
			}
		}
	}
	var errs []error
	for _, p := range portals {
		_, err := i.prepare(ctx, target, p)
		if err == nil {
			_, err = i.run(ctx, "-m", "node", "-T", target, "-p", p+","+portalGroup, "-I", i.iface, "--login")
			var x exited
			if errors.As(err, &x) && x.code == exitSessionExists {
				err = nil
			}
			if err != nil {
				err = i.explain(ctx, target+" at "+p, err)
			}
		}
		if err == nil {
			return i.awaitSession(ctx, target)
		}
		if ctx.Err() != nil {
			return session{}, ctx.Err()
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, i.failed(target, "the array names no portal", "Start the array with --iscsi-portal", nil))
	}
	return session{}, vss.Join(attachOp, errs...)
}

func (i *Initiator) live(target string) (session, bool) {
	for _, s := range i.sys.sessions(target, i.credentials.Initiator) {
		if i.sys.loggedIn(s) {
			return s, true
		}
	}
	return session{}, false
}

// awaitSession waits for a session to be, or to be again, logged in. Nothing
// that we could listen to announces it.
func (i *Initiator) awaitSession(ctx context.Context, target string) (session, error) {
	deadline := time.Now().Add(i.patience)
	for {
		if s, ok := i.live(target); ok {
			return s, nil
		}
		if time.Now().After(deadline) {
			return session{}, i.failed(target, "the session with the array is down", "Check the network to the array; open-iscsi connects again by itself", nil)
		}
		select {
		case <-ctx.Done():
			return session{}, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// leave logs out of sessions without devices. It is no error if it fails: an
// idle session does no harm, and the next disk uses it.
func (i *Initiator) leave(ctx context.Context, target string) {
	for _, s := range i.sys.sessions(target, i.credentials.Initiator) {
		if len(i.sys.places(s)) == 0 {
			_, _ = i.run(ctx, "-m", "session", "-r", s.id, "--logout")
		}
	}
}
