package freeze

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/underway"
	"github.com/umbra-vss/umbra/vss"
)

// slowSync: after a first flush this long, much was dirtied meanwhile, and it
// would be the freeze that has to write it.
const slowSync = 20 * time.Millisecond

// Sync writes the filesystem's dirty data, so that the freeze has little left
// to do: once, and again if that took long.
//
// When ctx ends first Sync returns VSS_E_FLUSH_WRITES_TIMEOUT; the kernel goes
// on writing. Other failures are VSS_E_UNEXPECTED with the cause.
func (f *Filesystem) Sync(ctx context.Context) error {
	const op = "flush before freeze"
	begin := Now()
	late := func() error {
		return &vss.Error{Code: vss.VSS_E_FLUSH_WRITES_TIMEOUT, Op: op, Object: f.Name(), Reason: "its dirty data was not written in time (after " + (Now() - begin).Round(10*time.Millisecond).String() + ")",
			Remedy: "Create the set when less is written to the volume, or allow more time", Err: context.Cause(ctx)}
	}
	if ctx.Err() != nil {
		return late()
	}
	f.mu.Lock()
	fd, err := dupFD(f.fd) // a descriptor that outlives Close while the kernel is busy
	f.mu.Unlock()
	if err != nil {
		return &vss.Error{Code: vss.VSS_E_BAD_STATE, Op: op, Object: f.Name(), Reason: "its descriptor cannot be used",
			Remedy: "Open the filesystem again", Err: err}
	}
	done := make(chan error, 1)
	end := underway.Begin(ctx, underway.Wait{Kind: underway.Device, What: "syncfs", Object: f.Name()})
	go func() {
		defer end()
		defer unix.Close(fd)
		begin := Now()
		err := unix.Syncfs(fd)
		if err == nil && Now()-begin > slowSync && ctx.Err() == nil {
			err = unix.Syncfs(fd)
		}
		done <- err
	}()
	select {
	case <-ctx.Done():
		return late()
	case err := <-done:
		if err != nil {
			return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: op, Object: f.Name(), Reason: "its dirty data could not be written",
				Remedy: "Look in the kernel log for errors of its device", Err: err}
		}
		return nil
	}
}
