package e2e

import (
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
)

// background runs a program on a host until its input ends, which stop brings
// about; stop waits for the program's end and kills it after a while.
func (f *fixture) background(h *site.Host, name string, args ...string) (stop func()) {
	f.Helper()
	cmd := exec.Command("nsenter", append([]string{"--mount", "--net", "--target", strconv.Itoa(h.DaemonPID()), "--", name}, args...)...)
	in, err := cmd.StdinPipe()
	f.must(err)
	f.must(cmd.Start())
	var once sync.Once
	stop = func() {
		once.Do(func() {
			in.Close()
			done := make(chan struct{})
			go func() { _ = cmd.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				_ = cmd.Process.Kill()
				<-done
			}
		})
	}
	f.Cleanup(stop)
	return stop
}
