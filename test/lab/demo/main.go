// Command demo tells umbra's story on virtual machines, as whoever runs it. It
// is what `make demo` does without root or loop devices.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/umbra-vss/umbra/test/lab"
	"github.com/umbra-vss/umbra/test/lab/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	_ = os.Setenv(lab.Env, "1")
	if err := story.Run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}
