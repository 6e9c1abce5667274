package iscsi

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// databases are where versions of open-iscsi keep their records.
var databases = []string{"/etc/iscsi", "/var/lib/iscsi", "/var/lib/open-iscsi"}

// portalGroup is the array's only one.
const portalGroup = "1"

// setting is a line of a record.
type setting struct{ key, value string }

// settings are what a node record must say.
func (i *Initiator) settings() []setting {
	c := i.credentials
	return []setting{
		{"iface.initiatorname", c.Initiator},
		{"node.startup", "manual"},
		{"node.session.scan", "manual"}, // or a login looks at everything the target shows
		{"node.session.auth.authmethod", "CHAP"},
		{"node.session.auth.username", c.User},
		{"node.session.auth.password", c.Secret},
		{"node.session.auth.username_in", c.TargetUser},
		{"node.session.auth.password_in", c.TargetSecret},
		{"node.session.auth.chap_algs", "SHA3-256,SHA256,SHA1,MD5"}, // the first that both have
		// A portal that is down is an error for whoever waits, not for minutes.
		{"node.session.initial_login_retry_max", "2"},
		{"node.conn[0].timeo.login_timeout", "10"},
	}
}

// prepare makes sure that open-iscsi has our interface and the node behind a
// portal, with what we want them to say. It reports whether they said something
// else before.
func (i *Initiator) prepare(ctx context.Context, target, portal string) (changed bool, err error) {
	if _, err := i.record(ctx, filepath.Join("ifaces", i.iface), []setting{{"iface.initiatorname", i.credentials.Initiator}},
		"-m", "iface", "-I", i.iface, "-o", "new"); err != nil {
		return false, err
	}
	host, port, err := net.SplitHostPort(portal)
	if err != nil {
		return false, i.failed(target, "the array names a portal that is no address: "+portal, "Give the array's --iscsi-portal as ADDRESS:PORT", err)
	}
	return i.record(ctx, filepath.Join("nodes", target, host+","+port+","+portalGroup, i.iface), i.settings(),
		"-m", "node", "-T", target, "-p", portal+","+portalGroup, "-I", i.iface, "-o", "new")
}

// record makes sure that a record is there, made by iscsiadm with these
// arguments, and says what it should.
func (i *Initiator) record(ctx context.Context, name string, want []setting, create ...string) (changed bool, err error) {
	path, text := i.findRecord(name)
	if path == "" {
		if _, err := i.run(ctx, create...); err != nil {
			return false, i.explain(ctx, name, err)
		}
		if path, text = i.findRecord(name); path == "" {
			return false, i.failed(name, "open-iscsi keeps its records where they were not found", "Look for them with iscsiadm -m node -P 1, and report where this version of open-iscsi has them", nil)
		}
	}
	edited := edit(text, want)
	if edited == text {
		return false, nil
	}
	if err := replace(path, edited, i.databases); err != nil {
		return false, i.failed(path, "open-iscsi's record cannot be written", "Run the service as root, with write access to open-iscsi's folder", err)
	}
	return true, nil
}

func (i *Initiator) findRecord(name string) (path, text string) {
	for _, base := range i.databases {
		p := filepath.Join(base, name)
		if b, err := os.ReadFile(p); err == nil {
			return p, string(b)
		}
	}
	return "", ""
}

// edit returns the record with the settings in it, unchanged if it has them.
func edit(record string, want []setting) string {
	lines := strings.Split(strings.TrimSuffix(record, "\n"), "\n")
	for _, w := range want {
		line, at := w.key+" = "+w.value, -1
		for n, l := range lines {
			if key, _, ok := strings.Cut(l, " = "); ok && strings.TrimSpace(key) == w.key {
				at = n
			}
		}
		switch end := len(lines) - 1; {
		case at >= 0:
			lines[at] = line
		case end >= 0 && strings.HasPrefix(lines[end], "#"): // "# END RECORD"
			lines = append(lines[:end:end], line, lines[end])
		default:
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// replace writes a file that is there whole or not at all. What is not finished
// lies beside the records' folders: everything in them is a record.
func replace(path, text string, databases []string) error {
	dir := filepath.Dir(path)
	for _, base := range databases {
		if strings.HasPrefix(path, base+"/") {
			dir = base
		}
	}
	f, err := os.CreateTemp(dir, ".umbra-record-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text) // mode 0600 from the start
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (i *Initiator) failed(object, reason, remedy string, err error) *vss.Error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: attachOp, Object: object, Reason: reason, Remedy: remedy, Err: err}
}
