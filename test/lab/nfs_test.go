package lab_test

import (
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/test/lab"
)

// serveNFS starts the kernel's NFS server, version 4 only, as an administrator's
// system does: rpc.mountd answers the kernel's questions. After a start clients
// of the last time would be waited for, and there are none.
func serveNFS(m *lab.Machine) {
	m.Sh(`modprobe nfsd && mount -t nfsd nfsd /proc/fs/nfsd && exportfs -r
rpc.mountd -N 2 -N 3 && rpc.nfsd -N 3 -p 2049 -G 10 -L 10 2 && echo Y >/proc/fs/nfsd/v4_end_grace`)
}

// TestNFSShare: a folder of an imported copy is read on another machine, by the
// kernel's own server and client, and by nobody and in no way that was not asked
// for.
func TestNFSShare(t *testing.T) {
	s := newSAN(t, "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	naa := s.lun("db", "64M", "a")
	a.Sh("umbra rescan")
	a.Sh(`mkfs.ext4 -q /dev/%s && mkdir -p /srv/db && mount /dev/%[1]s /srv/db && mkdir -p /srv/db/docs/2026
head -c 800000 /dev/urandom >/srv/db/docs/2026/report; echo above >/srv/db/above; ln -s ../above /srv/db/docs/up; sync
umbra create /srv/db --transportable --document /root/set.umbra`, s.disk(a, naa))
	doc, err := a.Pull(t.Context(), "/root/set.umbra")
	if err == nil {
		err = b.Push(t.Context(), doc, "/root/set.umbra", 0o600)
	}
	if err == nil {
		err = b.Push(t.Context(), []byte("[share]\ntype = \"nfs\"\nnfs_clients = [\""+a.Address()+"\"]\n"), "/root/umbra.toml", 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Sh("kill $(pidof umbra); while pidof umbra; do sleep 0.1; done")
	b.Start("sharing", "umbra daemon --config /root/umbra.toml").WaitFor("ready")
	b.Sh("umbra import /root/set.umbra")
	serveNFS(b)
	exports := func() string { return b.Sh("exportfs -s; ls /etc/exports.d 2>/dev/null || true") }
	b.Sh("umbra expose $(basename /run/umbra/copies/*) --share reports --path docs")
	if got := exports(); !strings.Contains(got, "/run/umbra/shares/reports") || !strings.Contains(got, "umbra-reports.exports") {
		t.Errorf("exported:\n%s", got)
	}

	mount := "mount -t nfs4 -o port=2049,soft,timeo=50 b:/run/umbra/shares/reports /mnt"
	a.Sh("modprobe nfsv4 && %s", mount)
	want := a.Sh("sha256sum </srv/db/docs/2026/report")
	if got := a.Sh("sha256sum </mnt/2026/report"); got != want {
		t.Errorf("read by NFS: %s, want %s", got, want)
	}
	if r := a.Fails("touch /mnt/new"); !strings.Contains(r.Stderr, "Read-only") {
		t.Errorf("a write: %s", r.Stderr)
	}
	a.Fails("mount -o remount,rw /mnt && touch /mnt/new")
	a.Fails("cat /mnt/up") // it leads out of what is shared

	// Who is not named does not get in.
	s.array.Sh("modprobe nfsv4")
	if r := s.array.Fails("timeout 20 %s", mount); !strings.Contains(r.Stderr, "denied") && !strings.Contains(r.Stderr, "No such file") {
		t.Errorf("another client fails for another reason: %s", r.Stderr)
	}

	// Whatever makes the table anew knows the share: exportfs -r, and a server
	// that starts again.
	b.Sh("exportfs -r && rpc.nfsd 0 && exportfs -ua && exportfs -f && exportfs -r && rpc.nfsd -N 3 -p 2049 2 && echo Y >/proc/fs/nfsd/v4_end_grace")
	a.Sh("umount /mnt && %s && test \"$(sha256sum </mnt/2026/report)\" = '%s'", mount, want)

	// A client with an open file keeps the share as it was; without, it goes.
	reader := a.Start("reader", "exec 3</mnt/2026/report; echo open; sleep 600")
	reader.WaitFor("open")
	if r := b.Fails("umbra unexpose reports"); !strings.Contains(r.Stderr, "VSS_E_VOLUME_IN_USE") {
		t.Errorf("unexposed under an open file: %s", r.Stderr)
	}
	if got := exports(); !strings.Contains(got, "/run/umbra/shares/reports") || !strings.Contains(got, "umbra-reports.exports") {
		t.Errorf("it is not shared as before:\n%s", got)
	}
	reader.Stop()
	a.Sh("sha256sum </mnt/2026/report && umount /mnt")
	b.Sh("for i in 1 2 3 4 5 6; do if umbra unexpose reports; then exit; fi; done; exit 1") // the server may take the client's word late
	if got := exports(); got != "" {
		t.Errorf("still exported:\n%s", got)
	}
	b.Fails("grep /run/umbra/shares /proc/mounts")
	a.Fails("timeout 20 %s", mount)
	b.Sh("umbra expose $(basename /run/umbra/copies/*) --share all")
	b.Sh("umbra delete all")
	if got := exports() + b.Sh("ls /run/umbra/shares; ls -d /sys/block/sd* 2>/dev/null || true"); got != "" {
		t.Errorf("left:\n%s", got)
	}
}
