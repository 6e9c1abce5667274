package freeze

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is CLOCK_MONOTONIC, the clock of every time in a [Report]. It does not
// jump, but stands still while the machine is suspended.
func Now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
