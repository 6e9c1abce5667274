package attach

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/umbra-vss/umbra/internal/host/process"
	"github.com/umbra-vss/umbra/internal/outlive"
)

// Trouble is what is wrong with the way to a device.
type Trouble struct {
	What string // "" if nothing is known to be
	Who  string
	Help string
}

// Examine asks the kernel's tables, and nobody who may hang, whether the way to a
// block device works: the session, connection or server that its LUN is reached
// by. root is "/" but in tests. False if there is no such device.
func Examine(root, device string) (Trouble, bool) {
	name := filepath.Base(device)
	dir := filepath.Join(root, "sys/class/block", name)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Trouble{}, false
	}
	if backing, err := os.ReadFile(filepath.Join(dir, "loop/backing_file")); err == nil {
		return Server(filepath.Dir(strings.TrimSuffix(strings.TrimSpace(string(backing)), " (deleted)"))), true
	}
	switch {
	case strings.HasPrefix(name, "sd"):
		return scsiTrouble(root, real), true
	case strings.HasPrefix(name, "nvme"):
		return nvmeTrouble(root, name), true
	case strings.HasPrefix(name, "loop"):
		return Trouble{}, false // detached: no LUN is below it
	}
	return Trouble{}, true
}

// Server looks at the program on record in a folder, which serves what is in it or
// is connected through it: none if there is no record.
func Server(dir string) Trouble {
	p := outlive.Kept(dir)
	if p.PID == 0 {
		return Trouble{} // a file, or an array's descriptor
	}
	who := fmt.Sprintf("its server (pid %d)", p.PID)
	if !p.Alive() {
		return Trouble{"the program that served it has ended", who, "umbra delete copy COPY --force"}
	}
	if s, ok := process.Look(p.PID); ok && s.Stopped() {
		return Trouble{"the program that serves it is stopped", who, fmt.Sprintf("kill -CONT %d", p.PID)}
	}
	return Trouble{}
}

// scsiTrouble looks at the session a disk came by.
func scsiTrouble(root, real string) Trouble {
	for dir := real; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if !strings.HasPrefix(filepath.Base(dir), "session") {
			continue
		}
		session := filepath.Join(root, "sys/class/iscsi_session", filepath.Base(dir))
		if state := attr(session, "state"); state != "" && state != "LOGGED_IN" {
			return Trouble{"its iSCSI session is " + state, "session " + strings.TrimPrefix(filepath.Base(dir), "session") + " with " + attr(session, "targetname"),
				"iscsiadm -m session -r " + strings.TrimPrefix(filepath.Base(dir), "session") + " -P 1"}
		}
	}
	if state := attr(real, "device/state"); state != "" && state != "running" {
		return Trouble{"the kernel says that it is " + state, "", "echo running > /sys/class/block/" + filepath.Base(real) + "/device/state"}
	}
	return Trouble{}
}

// nvmeTrouble looks at the connections of a disk: it works if one of them does.
func nvmeTrouble(root, name string) Trouble {
	dir := filepath.Join(root, "sys/class/block", name, "device")
	states := map[string]string{}
	if s := attr(dir, "state"); s != "" {
		states[name] = s
	}
	several, _ := filepath.Glob(filepath.Join(dir, "nvme*", "state"))
	for _, s := range several {
		states[filepath.Base(filepath.Dir(s))] = attr(filepath.Dir(s), "state")
	}
	var down []string
	for c, s := range states {
		if s == "live" {
			return Trouble{}
		}
		down = append(down, c+" is "+s)
	}
	if len(down) == 0 {
		return Trouble{}
	}
	return Trouble{"no connection works: " + strings.Join(down, ", "), "", "nvme list-subsys /dev/" + name}
}

func attr(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
