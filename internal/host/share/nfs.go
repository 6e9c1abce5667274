package share

import (
	"bufio"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// NFS exports by the table of the kernel's server, and by a file for each share
// in a folder that is read together with /etc/exports ([kept]): the table is
// made anew from these when the server starts, and by exportfs -r.
type NFS struct {
	Clients []string // machines, networks or @netgroups, as exports(5) has them
}

// CheckClient refuses what cannot be a client of an export.
func CheckClient(c string) error {
	if c == "" || c[0] == '-' || c[0] == '#' || c[0] == '/' || strings.ContainsAny(c, " \t\r\n\"'\\(),") {
		return &vss.Error{Code: vss.E_INVALIDARG, Op: "read configuration", Object: "nfs_clients " + strconv.Quote(c), Reason: "it cannot be a client of an export",
			Remedy: "Give a machine, a network such as 192.0.2.0/24, a @netgroup, or * for all, see exports(5)"}
	}
	return nil
}

func (n NFS) exportfs(ctx context.Context, args ...string) (string, error) {
	p, err := look("exportfs")
	if err != nil {
		return "", absent("the NFS server", "nfs-kernel-server", err)
	}
	return run(ctx, p[0], args...)
}

// spec is how exportfs names an export. The colons of an IPv6 address are in
// brackets.
func spec(client, path string) string {
	if strings.Contains(client, ":") && client[0] != '[' {
		address, bits, network := strings.Cut(client, "/")
		client = "[" + address + "]"
		if network {
			client += "/" + bits
		}
	}
	return client + ":" + path
}

// Free implements Server: exports have no names but their paths, which are
// Umbra's own.
func (n NFS) Free(ctx context.Context, name, path string) error {
	if len(n.Clients) == 0 {
		return noClients(name)
	}
	if _, err := n.exports(ctx); err != nil {
		return err
	}
	return n.freeFile(name, path)
}

func noClients(name string) error {
	return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: exposeOp, Object: name, Reason: "no NFS clients are configured", Remedy: "Set nfs_clients in [share] and start the daemon again"}
}

// Publish implements Server. The file is first: what is in the table only would
// be forgotten. The fsid is the copy's ID: by itself the server
// would take the filesystem's UUID, which is the original's as well. mountpoint
// keeps the empty folder from being exported if the mount is gone. Without -i the
// files would be exported as well, and other shares, which are not mounted yet
// after a reboot, fail this one.
func (n NFS) Publish(ctx context.Context, name, path string, id vss.ID) error {
	// Whether there is a server comes before anything is written for it.
	if _, err := look("exportfs"); err != nil {
		return absent("the NFS server", "nfs-kernel-server", err)
	}
	if err := n.freeFile(name, path); err != nil {
		return err
	}
	if len(n.Clients) == 0 { // any more: a line without clients would be for all
		return errors.Join(noClients(name), n.Withdraw(ctx, name, path))
	}
	options := "ro,no_subtree_check,root_squash,mountpoint,fsid=" + id.Bare()
	if err := n.keep(name, path, options); err != nil {
		return n.failed(ctx, name, path, err)
	}
	for _, c := range n.Clients {
		if _, err := n.exportfs(ctx, "-i", "-o", options, spec(c, path)); err != nil {
			if isAbsent(err) {
				return err
			}
			return n.failed(ctx, name, path, err)
		}
	}
	// exportfs succeeds for a client that it could not resolve.
	all, err := n.exports(ctx)
	if err != nil {
		return n.failed(ctx, name, path, err)
	}
	have := 0
	for _, e := range all {
		if e.path == path {
			have++
		}
	}
	if have == 0 {
		return n.failed(ctx, name, path, errors.New("none of nfs_clients is in the table of exports"))
	}
	return nil
}

// failed takes back what may be exported for some clients.
func (n NFS) failed(ctx context.Context, name, path string, err error) error {
	return errors.Join(refused("the NFS server", name, "Check nfs_clients in [share], see exports(5)", err), n.Withdraw(context.WithoutCancel(ctx), name, path))
}

// Withdraw implements Server. The file goes first, so that nobody's exportfs -r
// brings the export back, and goes also if there is no server any more. The
// table says for whom the path is exported: the configuration may have changed
// meanwhile.
func (n NFS) Withdraw(ctx context.Context, name, path string) error {
	if err := n.forget(name, path); err != nil {
		return err
	}
	all, err := n.exports(ctx)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.path != path {
			continue
		}
		if _, err := n.exportfs(ctx, "-u", spec(e.client, path)); err != nil {
			return refused("the NFS server", name, "Remove the export with exportfs -u", err)
		}
	}
	return nil
}

// List implements Server: what is in the table, and what will be when it is made
// anew.
func (n NFS) List(ctx context.Context) ([]Entry, error) {
	out, err := n.kept()
	if err != nil {
		return nil, err
	}
	all, err := n.exports(ctx)
	if isAbsent(err) && len(out) > 0 {
		err = nil // the files outlive their server
	}
	for _, e := range all {
		if x := (Entry{Name: filepath.Base(e.path), Path: e.path}); !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out, err
}

type export struct{ path, client string }

func (n NFS) exports(ctx context.Context) ([]export, error) {
	out, err := n.exportfs(ctx, "-s")
	if err != nil {
		if isAbsent(err) {
			return nil, err
		}
		return nil, refused("the NFS server", "exports", "See exportfs -s", err)
	}
	return parseExports(out), nil
}

// parseExports reads the output of exportfs -s: path, client and options on a
// line, like in /etc/exports.
func parseExports(out string) (all []export) {
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		end := strings.LastIndexByte(s.Text(), '(')
		if end < 0 {
			continue
		}
		head := strings.TrimSpace(s.Text()[:end])
		if i := strings.LastIndexAny(head, " \t"); i > 0 {
			all = append(all, export{unquoted(strings.TrimRight(head[:i], " \t")), head[i+1:]})
		}
	}
	return all
}
