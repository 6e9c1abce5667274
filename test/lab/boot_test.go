package lab_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/test/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Run(m)) }

// TestBoot: three machines come up, do what they are told, know each other, and
// have what the scenarios need of a kernel.
func TestBoot(t *testing.T) {
	l := lab.Start(t, lab.Machines{"array", "a", "b"})
	for _, name := range []string{"array", "a", "b"} {
		m := l.Machine(name)
		if got := m.Sh("hostname"); got != name {
			t.Errorf("%s calls itself %s", name, got)
		}
		t.Log(name, m.Sh("umbra --version; cut -d' ' -f1 /proc/uptime; free -m | sed -n 2p"))
	}
	a, array := l.Machine("a"), l.Machine("array")
	// They began with one memory, and are no twins.
	for _, random := range []string{"cat /proc/sys/kernel/random/boot_id", "cat /proc/sys/kernel/random/uuid", "head -c 16 /dev/urandom | od -t x1", "cat /sys/class/net/e*/address"} {
		if x, y := a.Sh("%s", random), l.Machine("b").Sh("%s", random); x == y {
			t.Errorf("%s: %s on both", random, x)
		}
	}
	if got, err := strconv.ParseInt(a.Sh("date +%s"), 10, 64); err != nil || time.Since(time.Unix(got, 0)).Abs() > 5*time.Second {
		t.Errorf("a's clock is at %d, %v", got, err)
	}
	boot := array.Sh("cat /proc/sys/kernel/random/boot_id")
	array.Sh("for m in dm_thin_pool dm_snapshot nvmet nvmet_tcp tcm_loop xfs; do modprobe $m || exit; done; ls /sys/kernel/config/target")
	a.Sh("for m in xfs btrfs nvme_tcp dm_multipath dm_service_time nbd dm_flakey; do modprobe $m || exit; done; grep -q ext4 /proc/filesystems")

	r, err := a.Run(t.Context(), "echo out; echo err >&2; exit 7")
	var failed *lab.Failed
	if !errors.As(err, &failed) || r.Code != 7 || r.Stdout != "out\n" || r.Stderr != "err\n" {
		t.Errorf("a failing command: %+v, %v", r, err)
	}
	big := strings.Repeat("0123456789abcdef", 1<<15)
	if err := a.Push(t.Context(), []byte(big), "/root/big", 0o640); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Pull(t.Context(), "/root/big"); err != nil || string(got) != big {
		t.Errorf("%d bytes of %d came back: %v", len(got), len(big), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := a.Run(ctx, "sleep 600 & sleep 600"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command beyond its time: %v", err)
	}
	if left := a.Sh("ps | grep '[s]leep 600' || true"); left != "" {
		t.Errorf("left running: %s", left)
	}

	a.Sh("ping -c 1 -W 5 array && ping -c 1 -W 5 b")
	l.CutNetwork("a", "array")
	a.Fails("ping -c 1 -W 1 array")
	a.Sh("ping -c 1 -W 5 b")
	l.HealNetwork("a", "array")
	a.Sh("ping -c 1 -W 5 array")

	p := array.Start("counter", "while :; do echo tick; sleep 0.2; done")
	p.WaitFor("tick")
	p.Stop()

	array.Sh("echo kept | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null")
	array.PowerOff()
	if _, err := array.Run(t.Context(), "true"); err == nil {
		t.Error("a machine that is off answers")
	}
	array.PowerOn()
	if array.Sh("cat /proc/sys/kernel/random/boot_id") == boot {
		t.Error("a boot has the last one's ID")
	}
	if got := array.Sh("head -n 1 /dev/vda | head -c 4"); got != "kept" {
		t.Errorf("the array's disk has %q after its power was cut", got)
	}
}
