package freeze

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

const opFreeze = "hold writes: freeze"

// freezeFailed classifies the errno of one FIFREEZE.
func freezeFailed(name, path string, errno syscall.Errno) error {
	e := &vss.Error{Op: opFreeze, Object: name, Err: errno}
	switch errno {
	case unix.EBUSY:
		e.Code, e.Reason = vss.VSS_E_VOLUME_IN_USE, "it is frozen by somebody else"
		e.Remedy = "Find who froze it; if nobody needs it frozen, run `fsfreeze -u " + path + "` and try again"
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS:
		e.Code, e.Reason = vss.VSS_E_VOLUME_NOT_SUPPORTED, "its filesystem cannot be frozen"
		e.Remedy = "Leave the volume out, or put it on ext4, XFS or btrfs"
	case unix.EPERM, unix.EACCES:
		e.Code, e.Reason = vss.E_ACCESSDENIED, "the service may not freeze filesystems"
		e.Remedy = "Run the service as root with CAP_SYS_ADMIN in the initial user namespace"
	default:
		e.Code, e.Reason = vss.VSS_E_UNEXPECTED, "the kernel could not freeze it"
		e.Remedy = "Look in the kernel log for errors of its device"
	}
	return e
}

func flushTimeout(object, reason string, cause error) error {
	return &vss.Error{Code: vss.VSS_E_FLUSH_WRITES_TIMEOUT, Op: opFreeze, Object: object, Reason: reason,
		Remedy: "Create the set when less is written to the volume, and flush it first", Err: cause}
}

func guardTrouble(reason, words string) error {
	e := &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: opFreeze, Object: "freeze guard", Reason: reason,
		Remedy: "Look in the kernel log for what killed it, and try again"}
	if words != "" {
		e.Err = errors.New(strings.TrimSpace(words))
	}
	return e
}

func startFailed(reason string, cause error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "start freeze guard", Object: "freeze guard", Reason: reason,
		Remedy: "Run the service as root with CAP_SYS_ADMIN, CAP_IPC_LOCK and CAP_SYS_RESOURCE", Err: cause}
}

func startCancelled(ctx context.Context) error {
	return &vss.Error{Code: vss.VSS_E_FLUSH_WRITES_TIMEOUT, Op: "start freeze guard", Object: "freeze guard", Reason: "it was not ready in time",
		Remedy: "Try again when the machine is less busy", Err: context.Cause(ctx)}
}

func holdBroken(objects []string, reason string, cause error) error {
	return &vss.Error{Code: vss.VSS_E_HOLD_WRITES_TIMEOUT, Op: "hold writes", Object: strings.Join(objects, ", "), Reason: reason,
		Remedy: "Delete the copies of this set, which may be torn, and create a new one", Err: cause}
}

func badState(reason, remedy string) error {
	return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: opFreeze, Object: "freeze guard", Reason: reason, Remedy: remedy}
}

func exceeded(limit time.Duration) string { return fmt.Sprintf("hold window exceeded (%v)", limit) }
