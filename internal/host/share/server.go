package share

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// Server is a file server that can be told of shares one by one. Its methods
// answer VSS_E_NOT_SUPPORTED, and which package helps, if it is not there.
type Server interface {
	// Free reports whether a share at path may have the name:
	// VSS_E_OBJECT_ALREADY_EXISTS if it is another's.
	Free(ctx context.Context, name, path string) error
	// Publish shares path, which is a mount, read-only. id identifies the
	// filesystem, whose own identity is its original's as well.
	Publish(ctx context.Context, name, path string, id vss.ID) error
	// Withdraw ends the share and sends its clients away.
	Withdraw(ctx context.Context, name, path string) error
	// List is every share that could be Umbra's.
	List(ctx context.Context) ([]Entry, error)
}

// Entry is a share as its server knows it. Path is empty if it is not Umbra's.
type Entry struct{ Name, Path string }

// commandTime bounds a program of a server; they answer in milliseconds, or ask
// a directory service.
const commandTime = 30 * time.Second

// run runs a program and returns what it said. Nothing of the environment but
// what finds programs and libraries is passed on: nobody but the configuration
// tells which files are used.
func run(ctx context.Context, name string, args ...string) (string, error) {
	out, said, err := underway.Run(ctx, commandTime, func(cmd *exec.Cmd) {
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	}, name, args...)
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, strings.TrimSpace(said))
	}
	return out, nil
}

// look finds a program where the distribution has it, whatever PATH is.
func look(names ...string) (paths []string, err error) {
	for _, n := range names {
		found := ""
		for _, dir := range []string{"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"} {
			if p, err := exec.LookPath(dir + n); err == nil {
				found = p
				break
			}
		}
		if found == "" {
			return nil, fmt.Errorf("%s: %w", n, exec.ErrNotFound)
		}
		paths = append(paths, found)
	}
	return paths, nil
}

func absent(server, pkg string, err error) error {
	return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: exposeOp, Object: server, Reason: "it is not installed", Remedy: "Install the package " + pkg, Err: err}
}

// isAbsent tells a server that is not installed from other failures.
func isAbsent(err error) bool { return errors.Is(err, exec.ErrNotFound) }

func refused(server, name, remedy string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: exposeOp, Object: name, Reason: server + " refused", Remedy: remedy, Err: err}
}

func taken(name, by string) error {
	return &vss.Error{Code: vss.VSS_E_OBJECT_ALREADY_EXISTS, Op: exposeOp, Object: name, Reason: "the name is taken by " + by, Remedy: "Give another name, or none and one is chosen"}
}
