package nbd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/export"
	"github.com/umbra-vss/umbra/internal/outlive"
	"github.com/umbra-vss/umbra/lun"
)

const (
	program    = "qemu-storage-daemon"
	socketName = "qmp"
	keysName   = "keys.psk"
	primeName  = "dh-params.pem"
	logName    = "log"
	// portalPrefix begins the names of the folders of further portals' servers.
	portalPrefix = "at-"
	cgroup       = "nbd-export"
	// With a hundred LUNs under load it has a tenth of that.
	serverMemory = 1 << 30
)

// server is a host's, running or not.
type server struct {
	dir     string
	address string // where it listens
	port    uint16
}

func (s *server) process() outlive.Process { return outlive.Kept(s.dir) }

// writeKey puts the host's key where the server looks at every connection.
func (s *server) writeKey(p export.Peer) (changed bool, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return false, err
	}
	text := []byte(p.Initiates.User + ":" + p.Initiates.Password + "\n")
	file := filepath.Join(s.dir, keysName)
	if now, err := os.ReadFile(file); err == nil && bytes.Equal(now, text) {
		return false, nil
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return true, err
	}
	return true, os.Rename(file+".new", file)
}

// talk speaks with the server, starting it if it does not run.
func (s *server) talk(ctx context.Context) (q *qmp, started bool, err error) {
	if s.process().Alive() {
		q, err := awaitSocket(ctx, s.dir, func() bool { return s.process().Alive() })
		return q, false, err
	}
	_ = os.Remove(filepath.Join(s.dir, socketName))
	if err := os.WriteFile(filepath.Join(s.dir, primeName), []byte(ffdhe2048), 0o600); err != nil {
		return nil, false, err
	}
	p, err := outlive.Start(outlive.Program{Dir: s.dir, Log: filepath.Join(s.dir, logName), Cgroup: cgroup, Memory: serverMemory, Args: []string{program,
		// Relative to its folder, see dial.
		"--chardev", "socket,path=" + socketName + ",server=on,wait=off,id=control", "--monitor", "chardev=control",
		"--object", "tls-creds-psk,id=tls,endpoint=server,dir=" + escape(s.dir),
		"--nbd-server", "addr.type=inet,addr.host=" + s.address + ",addr.port=" + strconv.Itoa(int(s.port)) + ",tls-creds=tls"}})
	if err != nil {
		return nil, false, err
	}
	q, err = awaitSocket(ctx, s.dir, p.Alive)
	if err != nil {
		_ = p.End(context.WithoutCancel(ctx), 0)
	}
	return q, true, err
}

// escape writes a value of QEMU's options, where a comma ends it.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// end ends the server and every connection to it.
func (s *server) end(ctx context.Context) error {
	err := s.process().End(ctx, 0)
	if err == nil {
		_ = os.Remove(filepath.Join(s.dir, socketName))
		outlive.Leave(cgroup)
	}
	return err
}

// nodeOf names the node of a LUN. A name has 31 characters at most; the seven
// digits that are left out are the same in all LUNs of all arrays.
func nodeOf(n lun.NAA, readOnly bool) string {
	kind := "w"
	if readOnly {
		kind = "r"
	}
	return kind + hex.EncodeToString(n[:])[7:]
}

// exports asks the server what it exports: read-only or not, by LUN.
func (q *qmp) exports() (map[lun.NAA]bool, error) {
	var list []struct {
		ID   string `json:"id"`
		Node string `json:"node-name"`
		Down bool   `json:"shutting-down"`
	}
	if err := q.do("query-block-exports", nil, &list); err != nil {
		return nil, err
	}
	out := map[lun.NAA]bool{}
	for _, e := range list {
		n, err := lun.ParseNAA(e.ID)
		if err == nil {
			out[n] = strings.HasPrefix(e.Node, "r")
		}
	}
	return out, nil
}

// add exports a LUN.
func (q *qmp) add(l export.LUN, readOnly bool) error {
	driver := "file"
	if fi, err := os.Stat(l.File); err != nil {
		return err
	} else if fi.Mode()&os.ModeDevice != 0 {
		driver = "host_device"
	}
	node := nodeOf(l.NAA, readOnly)
	err := q.do("blockdev-add", map[string]any{
		"node-name": node, "driver": "raw", "read-only": readOnly, "discard": "unmap",
		// Not locked: a LUN may have several hosts, each with its server.
		"file": map[string]any{"driver": driver, "filename": l.File, "locking": "off", "aio": "threads", "read-only": readOnly, "discard": "unmap"},
	}, nil)
	var r refused
	if errors.As(err, &r) && strings.Contains(r.why, "Duplicate nodes") { // an addition that was broken off
		err = nil
	}
	if err != nil {
		return err
	}
	err = q.do("block-export-add", map[string]any{"type": "nbd", "id": l.NAA.String(), "node-name": node, "name": l.NAA.String(), "writable": !readOnly, "writethrough": !readOnly}, nil)
	if err != nil {
		_ = q.do("blockdev-del", map[string]any{"node-name": node}, nil)
	}
	return err
}

// remove ends a LUN's export, and the connections to it, and lets go of its file.
func (q *qmp) remove(ctx context.Context, n lun.NAA, readOnly bool) error {
	if err := q.do("block-export-del", map[string]any{"id": n.String(), "mode": "hard"}, nil); err != nil {
		return err
	}
	// It is gone when requests under way are done.
	deadline := time.Now().Add(qmpTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		now, err := q.exports()
		if err != nil {
			return err
		}
		if _, there := now[n]; !there {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("the server does not end the export")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return q.do("blockdev-del", map[string]any{"node-name": nodeOf(n, readOnly)}, nil)
}

// connected looks for an established connection to the server's port, in its own
// network namespace.
func (s *server) connected() (bool, error) {
	p := s.process()
	if !p.Alive() {
		return false, nil
	}
	port := fmt.Sprintf(":%04X", s.port)
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.PID, table))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return false, err
		}
		for l := range strings.Lines(string(b)) {
			f := strings.Fields(l)
			if len(f) > 3 && strings.HasSuffix(f[1], port) && f[3] == "01" { // established
				return true, nil
			}
		}
	}
	return false, nil
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
