package doctor

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/host/freeze"
	"github.com/umbra-vss/umbra/internal/host/process"
	"github.com/umbra-vss/umbra/vss"
)

// machine is one that looks as a test says.
type machine struct {
	daemon, array Post
	guards        []Guard
	holds         []freeze.Hold
	intents       []freeze.HoldIntent
	err           error
}

func (m machine) Daemon() Post                          { return m.daemon }
func (m machine) Array() Post                           { return m.array }
func (m machine) Guards() []Guard                       { return m.guards }
func (m machine) Holds() []freeze.Hold                  { return m.holds }
func (m machine) Intents() ([]freeze.HoldIntent, error) { return m.intents, m.err }
func (m machine) StateDir() string                      { return "/var/lib/umbra" }
func (m machine) BootID() string                        { return "boot" }

// well is a machine on which nothing is wrong, with no array.
func well() machine {
	return machine{daemon: Post{Socket: "/run/umbra/umbra.sock", PID: 99999998, Process: process.Process{PID: 99999998, State: 'S'}}, array: Post{Absent: true}}
}

func TestServices(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*machine)
		want   string
		words  []string
	}{
		"well":             {func(*machine) {}, "", nil},
		"a dead daemon":    {func(m *machine) { m.daemon = Post{Socket: "/run/umbra/umbra.sock"} }, "daemon.ended", []string{"/run/umbra/umbra.sock", "systemctl restart umbra"}},
		"a stopped daemon": {func(m *machine) { m.daemon.Process.State, m.daemon.Silent = 'T', time.Second }, "daemon.stopped", []string{"kill -CONT 99999998"}},
		"a traced daemon":  {func(m *machine) { m.daemon.Process.State = 't' }, "daemon.stopped", nil},
		"a silent daemon":  {func(m *machine) { m.daemon.Silent = 4 * time.Second }, "daemon.silent", []string{"pid 99999998", "4s"}},
		"a full queue": {func(m *machine) {
			m.daemon.PID, m.daemon.Silent, m.daemon.Err = 0, 4*time.Second, process.ErrFull
		}, "daemon.silent", []string{"accepts no connections"}},
		"a dead array":       {func(m *machine) { m.array = Post{Socket: "/run/umbra/array.sock"} }, "array.ended", []string{"systemctl restart umbra-array"}},
		"a stopped array":    {func(m *machine) { m.array = Post{Socket: "a", PID: 99999997, Process: process.Process{State: 'T'}} }, "array.stopped", []string{"kill -CONT 99999997"}},
		"a stopped guard":    {func(m *machine) { m.guards = []Guard{{Process: process.Process{PID: 99999996, State: 'T'}}} }, "guard.stopped", []string{"kill -CONT 99999996"}},
		"unreadable intents": {func(m *machine) { m.err = errors.New("damaged") }, "hold.left", []string{"damaged", "/var/lib/umbra"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := well()
			tt.change(&m)
			fs := ExamineMachine(t.Context(), m)
			if tt.want == "" {
				if len(fs) != 0 {
					t.Errorf("%+v", fs)
				}
				return
			}
			one(t, fs, tt.want, tt.words...)
		})
	}
}

// TestLeftHold: an intent is nobody's only if daemon and guard are gone, and if it
// is of this boot.
func TestLeftHold(t *testing.T) {
	in := freeze.HoldIntent{SetID: vss.NewID().String(), BootID: "boot", Created: ago(time.Minute), Filesystems: []freeze.HeldFilesystem{{Path: "/srv/db"}}}
	m := well()
	m.intents = []freeze.HoldIntent{in}
	if fs := ExamineMachine(t.Context(), m); len(fs) != 0 {
		t.Errorf("while the daemon lives: %+v", fs)
	}
	m.daemon = Post{Socket: "s"}
	m.guards = []Guard{{Process: process.Process{PID: 99999996, State: 'S'}}}
	one(t, ExamineMachine(t.Context(), m), "daemon.ended")
	m.guards = nil
	fs := ExamineMachine(t.Context(), m)
	if len(fs) != 2 {
		t.Fatalf("%+v", fs)
	}
	if f := one(t, fs[:1], "hold.left", "/srv/db", in.SetID, "umbra thaw-intents --state-dir /var/lib/umbra"); !f.Since.Equal(in.Created) {
		t.Errorf("%+v", f)
	}
	m.intents[0].BootID = "an earlier one"
	one(t, ExamineMachine(t.Context(), m), "daemon.ended")
}

// TestHeldOutside: what a guard wrote down is believed when the daemon cannot say
// it.
func TestHeldOutside(t *testing.T) {
	m := well()
	m.holds = []freeze.Hold{{Began: ago(time.Minute), Filesystems: []freeze.HoldOf{{Path: "/srv/db", State: "frozen", Since: ago(time.Minute)}}}}
	if fs := ExamineMachine(t.Context(), m); len(fs) != 0 {
		t.Errorf("a daemon that answers says it itself: %+v", fs)
	}
	m.daemon.Process.State = 'T'
	fs := ExamineMachine(t.Context(), m)
	if len(fs) != 2 {
		t.Fatalf("%+v", fs)
	}
	one(t, fs[:1], "hold.overdue", "/srv/db")
}

// TestOutside: sockets tell who serves them, whatever that is doing.
func TestOutside(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	p := Places{Socket: socket, ArraySocket: filepath.Join(dir, "a"), State: dir, Holds: filepath.Join(dir, "holds"), Silent: time.Second}
	m := Outside(p)
	if d := m.Daemon(); d.PID != 0 || d.Silent != 0 || !m.Array().Absent {
		t.Errorf("%+v, %+v", d, m.Array())
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	m = Outside(p)
	if d := m.Daemon(); d.PID != os.Getpid() || d.Silent != time.Second || d.Process.Stopped() {
		t.Errorf("%+v", d)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	p.ArraySocket = socket
	if a := Outside(p).Array(); a.Absent || a.PID != 0 || a.Err != nil {
		t.Errorf("an array that ended: %+v", a)
	}
	// A process that is called like a guard, and is not this daemon's.
	cmd := exec.Command("sleep", "60")
	cmd.Args = []string{guardName}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if gs := Outside(p).Guards(); len(gs) != 0 {
		t.Errorf("%+v", gs)
	}
}
