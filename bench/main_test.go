package bench

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	vm "github.com/umbra-vss/umbra/test/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv(bareEnv) != "" {
		if err := bareMain(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		fmt.Fprintln(os.Stderr, "interrupted: removing the site")
		_ = closeLab()
		_ = vm.Clean()
		os.Exit(1)
	}()
	code := m.Run()
	results.print(os.Stdout)
	if err := errors.Join(closeLab(), vm.Clean()); err != nil {
		fmt.Fprintln(os.Stderr, "the site could not be removed:", err)
		code = 1
	}
	os.Exit(code)
}
