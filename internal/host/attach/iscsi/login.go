package iscsi

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/underway"
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

// programTime is longer than iscsid tries at a portal where nobody answers.
const programTime = 3 * time.Minute

// iscsiadm runs the program.
func iscsiadm(ctx context.Context, args ...string) (string, error) {
	out, errs, err := underway.Run(ctx, programTime, nil, "iscsiadm", args...)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	var x *exec.ExitError
	if errors.As(err, &x) {
		return "", exited{x.ExitCode(), lastLine(out + errs)}
	}
	return out + errs, err
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
		return silent(e)
	case exitNoTransport:
		e.Code, e.Reason, e.Remedy = vss.VSS_E_NOT_SUPPORTED, "this kernel has no iSCSI initiator", "Run modprobe iscsi_tcp as root"
	case exitNoDaemon:
		e.Reason, e.Remedy = "iscsid does not run", "Start it (systemctl enable --now iscsid)"
	}
	return e
}

func silent(e *vss.Error) *vss.Error {
	e.Reason = "the array's portal does not answer"
	e.Remedy = "Check that the array runs, that the network leads to its --iscsi-portal, and that no firewall is between"
	return e
}

func noOpenISCSI(err error) error {
	return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: attachOp, Object: "iscsiadm", Reason: "open-iscsi is not installed", Remedy: "Install it (apt install open-iscsi)", Err: err}
}
