package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/internal/site/sitetest"
)

// limitNBD: at least 0.9 of the speed of qemu-nbd.
const limitNBD = 1 / 0.9

const (
	nbdSize = "256M"
	nbdPort = "20809"
)

// BenchmarkNBD is reading a LUN over NBD, beside qemu-nbd.
func BenchmarkNBD(b *testing.B) {
	for _, p := range []string{"qemu-nbd", "nbdkit", "nbdfuse", "qemu-storage-daemon"} {
		if _, err := exec.LookPath(p); err != nil {
			b.Skip(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("/tmp", "umbra-bench-nbd-")
	must(b, err)
	defer os.RemoveAll(dir)
	program, err := sitetest.Program("..", dir)
	must(b, err)
	s, err := site.New(site.Options{Binary: program, Dir: dir, Transport: "nbd"})
	must(b, err)
	defer func() { must(b, s.Close()) }()
	must(b, s.StartArray(ctx, nil))
	h, err := s.AddHost(ctx, "hosta")
	must(b, err)
	naa, device, err := h.NewLUN(ctx, "db", nbdSize)
	must(b, err)
	_, err = h.Run(ctx, "dd", "if=/dev/urandom", "of="+device, "bs=1M", "count=256", "oflag=direct", "status=none")
	must(b, err)
	bare, end := bareNBD(ctx, b, s, h, naa)
	defer end()
	read := func(dev string) time.Duration {
		began := time.Now()
		_, err := h.Run(ctx, "dd", "if="+dev, "of=/dev/null", "bs=1M", "iflag=direct", "status=none")
		must(b, err)
		return time.Since(began)
	}
	read(device)
	read(bare)
	var ours, theirs samples
	for b.Loop() {
		ours = append(ours, read(device))
		theirs = append(theirs, read(bare))
	}
	r := ratio(ours.median(), theirs.median())
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(r, "ratio")
	results.add(row{what: "read " + nbdSize + " over NBD", measured: msText(ours.median()), against: "qemu-nbd " + msText(theirs.median()), value: r, limit: limitNBD, unit: "x"})
}

// bareNBD exports the LUN's file with qemu-nbd and attaches that by hand.
func bareNBD(ctx context.Context, b *testing.B, s *site.Site, h *site.Host, naa string) (device string, end func()) {
	keys := filepath.Join(s.Dir, "keys")
	must(b, os.Mkdir(keys, 0o700))
	must(b, os.WriteFile(filepath.Join(keys, "keys.psk"), []byte("bare:"+strings.Repeat("5a", 32)+"\n"), 0o600))
	mount := filepath.Join(s.Dir, "bare")
	must(b, os.WriteFile(mount, nil, 0o600))
	_, err := s.OnArray(ctx, "qemu-nbd", "--fork", "--pid-file="+filepath.Join(s.Dir, "qemu-nbd.pid"), "-t", "-r", "-e", "16", "-b", "10.77.0.1", "-p", nbdPort, "-x", "bare",
		"--image-opts", "driver=raw,file.driver=file,file.locking=off,file.filename="+filepath.Join(s.ArrayDir(), "store", "luns", naa),
		"--object", "tls-creds-psk,id=tls,endpoint=server,dir="+keys, "--tls-creds", "tls")
	must(b, err)
	// In the background of a shell, as it would be by hand.
	_, err = h.Run(ctx, "sh", "-ec", `nbdfuse -r -P "$0.pid" "$0" --socket-activation nbdkit -f --exit-with-parent --filter=retry nbd hostname=10.77.0.1 port=`+nbdPort+` export=bare tls=require tls-username=bare tls-psk="$1" >"$0.log" 2>&1 &
for i in $(seq 100); do grep -q " $0 fuse" /proc/self/mounts && exit 0; sleep 0.05; done; cat "$0.log" >&2; exit 1`, mount, filepath.Join(keys, "keys.psk"))
	must(b, err)
	out, err := h.Run(ctx, "losetup", "--find", "--show", "--direct-io=on", "--read-only", mount)
	must(b, err)
	device = strings.TrimSpace(out)
	return device, func() {
		_, err := h.Run(ctx, "losetup", "-d", device)
		must(b, err)
		_, err = h.Run(ctx, "umount", mount)
		must(b, err)
		_, err = s.OnArray(ctx, "sh", "-c", `kill $(cat "$0")`, filepath.Join(s.Dir, "qemu-nbd.pid"))
		must(b, err)
	}
}
