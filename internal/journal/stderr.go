package journal

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HasStderr reports whether what this process writes to standard error goes to
// the journal, by what systemd says in the environment.
func HasStderr() bool { return isStream(os.Getenv("JOURNAL_STREAM"), int(os.Stderr.Fd())) }

// isStream compares "device:inode" with a descriptor: the variable is inherited
// by programs whose standard error is something else.
func isStream(stream string, fd int) bool {
	device, inode, ok := strings.Cut(stream, ":")
	dev, err := strconv.ParseUint(device, 10, 64)
	ino, err2 := strconv.ParseUint(inode, 10, 64)
	var st unix.Stat_t
	return ok && err == nil && err2 == nil && unix.Fstat(fd, &st) == nil && st.Dev == dev && st.Ino == ino
}

// WithoutEvents is a log handler that leaves out the lines about events (those
// with an attribute "event"), for a log that goes where the events go as well.
func WithoutEvents(h slog.Handler) slog.Handler { return withoutEvents{h} }

type withoutEvents struct{ slog.Handler }

func (h withoutEvents) Handle(ctx context.Context, r slog.Record) error {
	about := false
	r.Attrs(func(a slog.Attr) bool {
		about = a.Key == "event"
		return !about
	})
	if about {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h withoutEvents) WithAttrs(as []slog.Attr) slog.Handler {
	return withoutEvents{h.Handler.WithAttrs(as)}
}

func (h withoutEvents) WithGroup(name string) slog.Handler {
	return withoutEvents{h.Handler.WithGroup(name)}
}
