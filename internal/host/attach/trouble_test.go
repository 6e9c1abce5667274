package attach

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/outlive"
)

// tree makes files below a folder; a value that begins with "->" is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, value := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, link := strings.CutPrefix(value, "->"); link {
			err = os.Symlink(filepath.Join(root, to), path)
		} else {
			err = os.WriteFile(path, []byte(value+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestExamine(t *testing.T) {
	const disk = "sys/devices/platform/host3/session2/target3:0:0/3:0:0:1/block/sdb"
	scsi := func(session, device string) map[string]string {
		return map[string]string{disk + "/device/state": device, "sys/class/block/sdb": "->" + disk,
			"sys/class/iscsi_session/session2/state": session, "sys/class/iscsi_session/session2/targetname": "iqn.x"}
	}
	nvme := func(states ...string) map[string]string {
		files := map[string]string{"sys/class/block/nvme0n1/size": "1"}
		for i, s := range states {
			files["sys/class/block/nvme0n1/device/nvme"+string(rune('0'+i))+"/state"] = s
		}
		return files
	}
	for name, tt := range map[string]struct {
		files  map[string]string
		device string
		here   bool
		what   string
		help   string
	}{
		"a disk that is gone":       {nil, "/dev/sdb", false, "", ""},
		"a session that is up":      {scsi("LOGGED_IN", "running"), "/dev/sdb", true, "", ""},
		"a session that is down":    {scsi("FAILED", "blocked"), "/dev/sdb", true, "its iSCSI session is FAILED", "iscsiadm -m session -r 2 -P 1"},
		"a disk that is offline":    {scsi("LOGGED_IN", "offline"), "/dev/sdb", true, "it is offline", "echo running > /sys/class/block/sdb/device/state"},
		"a connection that lives":   {nvme("connecting", "live"), "/dev/nvme0n1", true, "", ""},
		"no connection that lives":  {nvme("connecting"), "/dev/nvme0n1", true, "no connection works: nvme0 is connecting", "nvme list-subsys /dev/nvme0n1"},
		"a loop device":             {map[string]string{"sys/class/block/loop1/loop/backing_file": "/store/naa.1"}, "/dev/loop1", true, "", ""},
		"a loop device without LUN": {map[string]string{"sys/class/block/loop1/size": "0"}, "/dev/loop1", false, "", ""},
		"something else":            {map[string]string{"sys/class/block/dm-3/size": "0"}, "/dev/dm-3", true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tr, here := Examine(tree(t, tt.files), tt.device)
			if here != tt.here || !strings.Contains(tr.What, tt.what) || (tr.What == "") != (tt.what == "") || tr.Help != tt.help {
				t.Errorf("%+v, %v", tr, here)
			}
		})
	}
}

// TestServer: a loop device of a file that a program serves works as long as the
// program does.
func TestServer(t *testing.T) {
	dir := t.TempDir()
	root := tree(t, map[string]string{"sys/class/block/loop1/loop/backing_file": filepath.Join(dir, "naa.1")})
	p, err := outlive.Start(outlive.Program{Args: []string{"sleep", "60"}, Dir: dir, Log: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.End(t.Context(), 0) })
	if err := p.Keep(dir); err != nil {
		t.Fatal(err)
	}
	await := func(what, help string) {
		t.Helper()
		var tr Trouble
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if tr, _ = Examine(root, "/dev/loop1"); strings.Contains(tr.What, what) && (what != "" || tr.What == "") {
				if !strings.HasPrefix(tr.Help, help) {
					t.Errorf("%+v", tr)
				}
				return
			}
		}
		t.Fatalf("want %q, have %+v", what, tr)
	}
	await("", "")
	if err := syscall.Kill(p.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await("is stopped", "kill -CONT ")
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await("has ended", "umbra delete copy")
}
