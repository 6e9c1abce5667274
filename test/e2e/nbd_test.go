package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/internal/demo"
	"github.com/umbra-vss/umbra/internal/site"
)

// overNBD is a site whose hosts get their LUNs over NBD, through the network
// between their namespaces.
func overNBD(t *testing.T) *fixture {
	t.Helper()
	for _, p := range []string{"nbdkit", "nbdfuse", "qemu-storage-daemon"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	return newFixtureWith(t, site.Options{Transport: "nbd"})
}

// digest is of a file as a host reads it now, from the array.
func (f *fixture) digest(h *site.Host, path string) string {
	f.Helper()
	out, err := h.Run(f.ctx, "sh", "-c", "echo 3 >/proc/sys/vm/drop_caches; sha256sum <"+path)
	f.must(err)
	return strings.TrimSpace(out)
}

// TestNBD is the story over NBD: a set made on A under load, A gone, imported on
// B, deleted. Both daemons and the array are killed under I/O on the way, and no
// program notices.
func TestNBD(t *testing.T) {
	f := overNBD(t)
	v, device, _ := f.volume("v", "ext4")
	w, _, _ := f.volume("w", "xfs")
	content := bytes.Repeat([]byte("umbra over nbd\n"), 1<<18)
	f.put(v, "big", string(content))
	want := fmt.Sprintf("%x  -", sha256.Sum256(content))
	load, err := demo.StartWorkload(f.ctx, f.a.Path(filepath.Join(v, "log")), f.a.Path(filepath.Join(w, "log")))
	f.must(err)
	writing := func(since int) { // that the load goes on
		t.Helper()
		eventually(t, "the load goes on", 20*time.Second, func() bool { return load.Written() > since+20 })
	}
	writing(0)
	f.a.KillDaemon()
	f.site.KillArray()
	writing(load.Written())
	f.must(f.site.StartArray(f.ctx, nil))
	f.must(f.a.StartDaemon(f.ctx, nil))
	writing(load.Written())
	if info, err := f.site.Array(f.ctx, "info"); err != nil || strings.Contains(info, "Attention") {
		t.Errorf("the array found its exports changed: %s%v", info, err)
	}
	if out, err := f.a.Umbra(f.ctx, "list", "luns"); err != nil || !strings.Contains(out, device) {
		t.Errorf("%s is not attached after the restart: %s%v", device, out, err)
	}
	set := f.create("app-rollback", v, w)
	if err := load.Stop(); err != nil {
		t.Errorf("after %d records: %v", load.Written(), err)
	}
	f.a.KillDaemon()
	f.must(f.site.Cut(f.a, true))

	im, err := f.importOn(f.b, set.doc)
	f.must(err)
	for _, c := range im.Copies {
		if _, err := f.b.Run(f.ctx, "sh", "-c", "dd if=/dev/zero of="+c.BlockDevice+" bs=4096 count=1 conv=nocreat 2>&1"); err == nil {
			t.Error("the copy is writable")
		}
		if c.OriginalVolumeName != v {
			continue
		}
		file := c.DeviceObject + "/big"
		if got := f.digest(f.b, file); got != want {
			t.Errorf("the copy reads %s, not %s", got, want)
		}
		// Under reads without end.
		done := make(chan error, 1)
		stop := filepath.Join(f.site.Dir, "stop")
		go func() {
			_, err := f.b.Run(f.ctx, "sh", "-ec", "until test -e "+stop+"; do dd if="+c.BlockDevice+" of=/dev/null bs=1M count=64 iflag=direct 2>/dev/null; done")
			done <- err
		}()
		f.b.KillDaemon()
		f.site.KillArray()
		time.Sleep(200 * time.Millisecond)
		f.must(f.site.StartArray(f.ctx, nil))
		f.must(f.b.StartDaemon(f.ctx, nil))
		f.must(os.WriteFile(stop, nil, 0o600))
		if err := <-done; err != nil {
			t.Errorf("reading while all was restarted: %v", err)
		}
		if got := f.digest(f.b, file); got != want {
			t.Errorf("after the restarts the copy reads %s", got)
		}
	}
	f.must(f.site.Cut(f.a, false))
	_, err = f.b.Umbra(f.ctx, "delete", "set", set.SetID.String())
	f.must(err)
	f.nothingOn(f.b)
	if left, _ := filepath.Glob(f.b.Path(filepath.Join(f.b.RunDir(), "nbd", "*", "naa.*"))); len(left) > 0 {
		t.Errorf("left on B: %v", left)
	}
}

// TestNBDStrangers: who has no key has nothing, a host has nothing of another's,
// and a host that is removed loses what it has, at once.
func TestNBDStrangers(t *testing.T) {
	f := overNBD(t)
	v, device, naa := f.volume("v", "ext4")
	f.put(v, "file", "content")
	keyOf := func(h *site.Host) (key, dir string) {
		t.Helper()
		files, _ := filepath.Glob(filepath.Join(h.StateDir(), "arrays", "*.bundle"))
		if len(files) != 1 {
			t.Fatalf("bundles: %v", files)
		}
		raw, err := os.ReadFile(files[0])
		f.must(err)
		b, err := client.ParseBundle(raw)
		f.must(err)
		dir = filepath.Join(f.site.Dir, "keys-"+h.Name)
		f.must(os.MkdirAll(dir, 0o700))
		f.must(os.WriteFile(filepath.Join(dir, "keys.psk"), []byte(b.NBD.Identity+":"+b.NBD.Key+"\n"), 0o600))
		return dir, b.NBD.Portals[0]
	}
	try := func(dir, portal, identity string) (string, error) {
		host, port, _ := strings.Cut(portal, ":")
		return f.b.Run(f.ctx, "sh", "-c", fmt.Sprintf("timeout 20 nbdkit -U - --exit-with-parent nbd hostname=%s port=%s export=%s tls=require tls-username=%s tls-psk=%s/keys.psk --run 'nbdinfo --size \"$uri\"' 2>&1", host, port, naa, identity, dir))
	}
	mine, portalA := keyOf(f.a)
	others, portalB := keyOf(f.b)
	if out, err := try(mine, portalA, f.a.Name); err != nil || !strings.Contains(out, "536870912") {
		t.Fatalf("with A's own key: %s%v", out, err)
	}
	for what, c := range map[string]struct{ dir, portal, identity string }{
		"B's key at A's server":                  {others, portalA, f.b.Name},
		"B's key under A's name":                 {others, portalA, f.a.Name},
		"A's name with a key of somebody else's": {filepath.Join(f.site.Dir), portalA, f.a.Name},
		"B's own server":                         {others, portalB, f.b.Name},
	} {
		if out, err := try(c.dir, c.portal, c.identity); err == nil || strings.Contains(out, "536870912") {
			t.Errorf("%s: %s%v", what, out, err)
		}
	}
	host, port, _ := strings.Cut(portalA, ":")
	if out, err := f.b.Run(f.ctx, "sh", "-c", "timeout 20 nbdinfo --size nbd://"+host+":"+port+"/"+naa+" 2>&1"); err == nil || strings.Contains(out, "536870912") {
		t.Errorf("without TLS: %s%v", out, err)
	}

	_, err := f.site.Array(f.ctx, "host", "remove", f.a.Name, "--force")
	f.must(err)
	if out, err := f.a.Run(f.ctx, "sh", "-c", "timeout 60 dd if="+device+" of=/dev/null bs=4096 count=1 skip=100000 iflag=direct 2>&1"); err == nil {
		t.Errorf("a host that was removed reads on: %s", out)
	}
	if out, err := f.site.Array(f.ctx, "lun", "list"); err != nil || strings.Contains(out, f.a.Name) {
		t.Errorf("it is still there: %s%v", out, err)
	}
}

// TestNBDNetworkCut: a network that swallows packets for some seconds is an
// interruption; and a server that is gone for longer than a host waits is an I/O
// error, no hang, after which the device works again.
func TestNBDNetworkCut(t *testing.T) {
	f := overNBD(t)
	v, device, naa := f.volume("v", "ext4")
	f.put(v, "file", "content")
	_, err := f.a.Run(f.ctx, "sync")
	f.must(err)
	f.must(f.site.Cut(f.a, true))
	done := make(chan error, 1)
	go func() {
		_, err := f.a.Run(f.ctx, "dd", "if="+device, "of=/dev/null", "bs=4096", "count=1", "skip=100000", "iflag=direct")
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("a read over a cut network ended: %v", err)
	case <-time.After(3 * time.Second):
	}
	f.must(f.site.Cut(f.a, false))
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("after the network was there again: %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("a read hangs after the network was there again")
	}

	// The server ends by itself and is started again by the array.
	servers, _ := filepath.Glob(filepath.Join(f.site.ArrayDir(), "nbd", "*", "process.json"))
	if len(servers) != 1 {
		t.Fatalf("servers: %v", servers)
	}
	var p struct{ PID int }
	raw, err := os.ReadFile(servers[0])
	f.must(err)
	f.must(json.Unmarshal(raw, &p))
	proc, err := os.FindProcess(p.PID)
	f.must(err)
	f.must(proc.Kill())
	if _, err := f.a.Run(f.ctx, "dd", "if="+device, "of=/dev/null", "bs=4096", "count=1", "skip=100008", "iflag=direct"); err != nil {
		t.Errorf("while the server was started again: %v", err)
	}
	// New keys while it is mounted.
	bundle := filepath.Join(f.site.Dir, "again.bundle")
	_, err = f.site.Array(f.ctx, "enroll", f.a.Name, "--bundle", bundle)
	f.must(err)
	_, err = f.a.Umbra(f.ctx, "join", bundle)
	f.must(err)
	if _, err := f.a.Run(f.ctx, "dd", "if="+device, "of=/dev/null", "bs=4096", "count=1", "skip=100016", "iflag=direct"); err != nil {
		t.Errorf("after the host was enrolled again and has joined: %v", err)
	}
	f.works(v)
	_, err = f.a.Run(f.ctx, "umount", v)
	f.must(err)
	_, err = f.a.Umbra(f.ctx, "detach", naa)
	f.must(err)
	if _, err := f.site.Array(f.ctx, "lun", "delete", naa); err != nil {
		t.Error(err)
	}
	servers, _ = filepath.Glob(filepath.Join(f.site.ArrayDir(), "nbd", "*", "qmp"))
	if len(servers) != 0 {
		t.Errorf("a host without LUNs has a server: %v", servers)
	}
}
