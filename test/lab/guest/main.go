// Command guest is a lab machine's first process, and the one that carries out
// what the lab asks for. It is two processes: the first brings the machine up
// and then does nothing but collect children, as somebody must; the second, its
// child, listens to the lab. On a machine with systemd the first becomes that, and
// the second is a service (image/content.go).
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		trouble, _ := os.ReadFile(troubleFile)
		say("agent: %v", serve(os.Getenv("LAB_TROUBLE")+string(trouble)))
		powerOff()
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is the first process of a lab machine")
		os.Exit(2)
	}
	trouble := bringUp()
	if systemd() {
		say("no systemd: %v", handOver(trouble))
		powerOff()
	}
	self, err := os.StartProcess("/init", []string{"/init", "agent"}, &os.ProcAttr{
		Env:   append(environment(), "LAB_TROUBLE="+strings.Join(trouble, "\n")),
		Files: []*os.File{nil, os.Stderr, os.Stderr},
	})
	if err != nil {
		say("no agent: %v", err)
		powerOff()
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err == nil && pid == self.Pid {
			say("the agent ended: %v", status)
			powerOff()
		}
	}
}

// say writes to the machine's console, which the lab keeps.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...)
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"}
}

// do runs a program during start-up.
func do(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
