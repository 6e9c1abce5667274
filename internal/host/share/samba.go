package share

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/vss"
)

// Samba shares by usershares. They are files of Samba's own state and outlive a
// reboot; [Shares.Sweep] removes those whose copy did not come back.
type Samba struct {
	Config  string   // smb.conf; "" for the distribution's
	Readers []string // accounts, groups or SIDs that may read; Everyone is everybody Samba knows
	Guests  bool     // those it does not know, too
}

// everyone is the SID of "Everyone". As a SID because a name is looked up by
// smbd, which need not run yet.
const everyone = "S-1-1-0"

// acl is the access list, read-only for all its entries.
func (s Samba) acl() string {
	var entries []string
	for _, r := range s.Readers {
		if strings.EqualFold(r, "everyone") {
			r = everyone
		}
		entries = append(entries, r+":R")
	}
	return strings.Join(entries, ",")
}

func (s Samba) programs() (net, testparm, smbcontrol string, err error) {
	p, err := look("net", "testparm", "smbcontrol", "smbd")
	if err != nil {
		return "", "", "", absent("Samba", "samba", err)
	}
	return p[0], p[1], p[2], nil
}

func (s Samba) config() []string {
	if s.Config == "" {
		return nil
	}
	return []string{"-s", s.Config}
}

func (s Samba) usershare(ctx context.Context, args ...string) (string, error) {
	net, _, _, err := s.programs()
	if err != nil {
		return "", err
	}
	return run(ctx, net, append(append(s.config(), "usershare"), args...)...)
}

// Free implements Server. A section of smb.conf hides a usershare of its name.
func (s Samba) Free(ctx context.Context, name, path string) error {
	_, testparm, _, err := s.programs()
	if err != nil {
		return err
	}
	args := []string{"-s", "--section-name=" + name}
	if s.Config != "" {
		args = append(args, s.Config)
	}
	if _, err := run(ctx, testparm, args...); err == nil {
		return taken(name, "a section of smb.conf")
	}
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		if strings.EqualFold(e.Name, name) && e.Path != path {
			return taken(name, "another usershare")
		}
	}
	return nil
}

// Publish implements Server.
func (s Samba) Publish(ctx context.Context, name, path string, id vss.ID) error {
	guests := "guest_ok=n"
	if s.Guests {
		guests = "guest_ok=y"
	}
	_, err := s.usershare(ctx, "add", name, path, "Shadow copy "+id.Bare()+" (read-only)", s.acl(), guests)
	if err == nil || isAbsent(err) {
		return err
	}
	if strings.Contains(err.Error(), "usershares are currently disabled") {
		return &vss.Error{Code: vss.VSS_E_NOT_SUPPORTED, Op: exposeOp, Object: name, Reason: "Samba's usershares are switched off", Remedy: `Set "usershare max shares" in smb.conf`, Err: err}
	}
	return refused("Samba", name, "See what it said; names of readers are looked up by smbd, which must run for that", err)
}

// Withdraw implements Server.
func (s Samba) Withdraw(ctx context.Context, name, path string) error {
	all, err := s.List(ctx)
	if isAbsent(err) {
		return nil // without Samba nobody is served
	}
	if err != nil {
		return err
	}
	for _, e := range all {
		if !strings.EqualFold(e.Name, name) || e.Path != path {
			continue
		}
		if _, err := s.usershare(ctx, "delete", e.Name); err != nil {
			return refused("Samba", name, "Delete the usershare with net usershare delete", err)
		}
	}
	// Who is connected has the mount open until told to go. An smbd that does
	// not run has told nobody, and serves nobody.
	if _, _, smbcontrol, err := s.programs(); err == nil {
		_, _ = run(ctx, smbcontrol, append(s.config(), "smbd", "close-share", name)...)
	}
	return nil
}

// List implements Server. It reads the files of the usershares: net usershare
// keeps silent about those whose folder is not there, which is what a reboot
// makes of Umbra's.
func (s Samba) List(ctx context.Context) (all []Entry, err error) {
	_, testparm, _, err := s.programs()
	if err != nil {
		return nil, err
	}
	args := []string{"-s", "--parameter-name=usershare path"}
	if s.Config != "" {
		args = append(args, s.Config)
	}
	out, err := run(ctx, testparm, args...)
	if err != nil {
		return nil, refused("Samba", "usershares", "Check smb.conf with testparm", err)
	}
	dir := strings.TrimSpace(out)
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, refused("Samba", dir, "Check usershare path in smb.conf", err)
	}
	for _, f := range files {
		all = append(all, Entry{Name: f.Name(), Path: usersharePath(filepath.Join(dir, f.Name()))})
	}
	return all, nil
}

// usersharePath is the path that a usershare shares, "" if it is none of
// root's: members of a group may write what they like.
func usersharePath(file string) string {
	const most = 10 << 10 // Samba's own limit
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Sys().(*syscall.Stat_t).Uid != 0 {
		return ""
	}
	for s := bufio.NewScanner(io.LimitReader(f, most)); s.Scan(); {
		if p, ok := strings.CutPrefix(s.Text(), "path="); ok {
			return p
		}
	}
	return ""
}
