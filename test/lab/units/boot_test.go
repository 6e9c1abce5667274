package units

import (
	"os"
	"testing"

	"github.com/umbra-vss/umbra/test/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Run(m)) }

func TestUnits(t *testing.T) {
	l := lab.StartSystemd(t, lab.Machines{"array", "a"})
	for _, n := range []string{"array", "a"} {
		t.Log(l.Machine(n).Sh("cat /proc/1/comm; systemctl list-units --no-pager; systemctl --failed --no-pager; journalctl -b --no-pager | tail -60; systemctl is-system-running || true; ls /etc /sys/fs/cgroup; mount"))
	}
	a := l.Machine("a")
	a.Sh("systemctl --no-block reboot")
	a.WaitOff()
	a.PowerOn()
	t.Log(a.Sh("ls /lab/state; systemctl --failed --no-pager"))
}
