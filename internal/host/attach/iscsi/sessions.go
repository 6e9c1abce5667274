package iscsi

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// connect makes sure that there is a session at every portal that lets us, and
// returns those that are up, in the order of the portals. One is enough: the
// others' errors count only if there is none.
//
// A session that iscsid is mending is waited for, unless that cannot succeed
// because the host has other secrets by now.
func (i *Initiator) connect(ctx context.Context, target string, portals []string) ([]session, error) {
	if len(portals) == 0 {
		return nil, i.failed(target, "the array names no portal", "Start the array with --iscsi-portal", nil)
	}
	all, errs := make([]session, len(portals)), make([]error, len(portals))
	up := 0
	for n, p := range portals {
		var ok bool
		if all[n], ok = i.at(target, p); ok && i.sys.loggedIn(all[n]) {
			up++
			continue
		}
		// One after the other: the first makes our interface's record.
		var changed bool
		if changed, errs[n] = i.prepare(ctx, target, p); changed && ok {
			i.outdated[all[n].name] = true
		}
	}
	if up < len(portals) {
		got := i.several(ctx, len(portals), func(ctx context.Context, n int) (err error) {
			if errs[n] != nil {
				return errs[n]
			}
			all[n], err = i.login(ctx, target, portals[n], len(portals) > 1)
			return err
		})
		copy(errs, got)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var sessions []session
	for n, s := range all {
		if errs[n] == nil {
			sessions = append(sessions, s)
		}
	}
	if len(sessions) == 0 {
		return nil, vss.Join(attachOp, errs...)
	}
	return sessions, nil
}

// at finds the session at a portal, preferably one that is up.
func (i *Initiator) at(target, portal string) (found session, ok bool) {
	for _, s := range i.sys.sessions(target, i.credentials.Initiator) {
		if s.portal == spell(portal) || s.portal == "" {
			if i.sys.loggedIn(s) {
				return s, true
			}
			found, ok = s, true
		}
	}
	return found, ok
}

// login gets a session at one portal.
func (i *Initiator) login(ctx context.Context, target, portal string, others bool) (session, error) {
	if s, ok := i.at(target, portal); ok {
		if i.sys.loggedIn(s) || !i.outdated[s.name] {
			return i.awaitSession(ctx, target, portal)
		}
		if i.used(ctx, s) {
			return session{}, i.failed(target+" at "+portal, "its session has the secrets of before this host joined again, and disks on it are in use",
				"Restart iscsid, which takes the new ones (systemctl restart iscsid), or unmount the disks", nil)
		}
		if _, err := i.run(ctx, "-m", "session", "-r", s.id, "--logout"); err != nil {
			return session{}, i.explain(ctx, target+" at "+portal, err)
		}
	}
	// iscsid goes on for long at a portal that does not answer, and nobody can
	// stop it. That matters where there is another way.
	if others {
		if err := i.reach(ctx, portal); err != nil {
			if ctx.Err() != nil {
				return session{}, ctx.Err()
			}
			return session{}, silent(i.failed(target+" at "+portal, "", "", err))
		}
	}
	if err := i.logIn(ctx, target, portal); err != nil {
		return session{}, err
	}
	return i.awaitSession(ctx, target, portal)
}

// logIn has iscsid log in. It tries for long where nobody answers: whoever waits
// is told sooner. If somebody answers after all, there is an idle session.
func (i *Initiator) logIn(ctx context.Context, target, portal string) error {
	watched, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	t := time.AfterFunc(i.hurry, func() {
		if err := i.reach(watched, portal); err != nil && watched.Err() == nil {
			stop(err)
		}
	})
	defer t.Stop()
	_, err := i.run(watched, "-m", "node", "-T", target, "-p", portal+","+portalGroup, "-I", i.iface, "--login")
	if x := (exited{}); errors.As(err, &x) && x.code == exitSessionExists {
		return nil
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if watched.Err() != nil {
		return silent(i.failed(target+" at "+portal, "", "", context.Cause(watched)))
	}
	return i.explain(ctx, target+" at "+portal, err)
}

// reach waits until a portal answers. A cable that is pulled for a moment is
// waited for; a machine that says that there is nothing is believed.
func (i *Initiator) reach(ctx context.Context, portal string) error {
	for deadline := time.Now().Add(i.patience); ; {
		err := i.dial(ctx, portal)
		if err == nil || errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// dialTime is long for a connection, even on a busy network.
const dialTime = 3 * time.Second

func dial(ctx context.Context, portal string) error {
	d := net.Dialer{Timeout: dialTime}
	c, err := d.DialContext(ctx, "tcp", portal)
	if err == nil {
		err = c.Close()
	}
	return err
}

// used reports whether disks of a session are in use.
func (i *Initiator) used(ctx context.Context, s session) bool {
	for _, p := range i.sys.places(s) {
		name := i.sys.disk(p)
		if name == "" {
			continue
		}
		if dev, err := i.inspect(ctx, name); err == nil && i.inUse(dev) {
			return true
		}
	}
	return false
}

// awaitSession waits for a session to be, or to be again, logged in. Nothing
// that we could listen to announces it.
func (i *Initiator) awaitSession(ctx context.Context, target, portal string) (session, error) {
	deadline := time.Now().Add(i.patience)
	for {
		if s, ok := i.at(target, portal); ok && i.sys.loggedIn(s) {
			return s, nil
		}
		if time.Now().After(deadline) {
			return session{}, i.failed(target+" at "+portal, "the session with the array is down", "Check the network to the array; open-iscsi connects again by itself", nil)
		}
		select {
		case <-ctx.Done():
			return session{}, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// leave logs out of sessions without devices. It is no error if it fails: an
// idle session does no harm, and the next disk uses it.
func (i *Initiator) leave(ctx context.Context, target string) {
	for _, s := range i.sys.sessions(target, i.credentials.Initiator) {
		if len(i.sys.places(s)) == 0 {
			_, _ = i.run(ctx, "-m", "session", "-r", s.id, "--logout")
		}
	}
}

// several does n things at a time that serve the same purpose: when one is done,
// the others have a grace, after which their context ends.
func (i *Initiator) several(ctx context.Context, n int, do func(ctx context.Context, k int) error) []error {
	each, stop := context.WithCancel(ctx)
	defer stop()
	type outcome struct {
		k   int
		err error
	}
	done := make(chan outcome, n)
	for k := range n {
		go func() { done <- outcome{k, do(each, k)} }()
	}
	errs := make([]error, n)
	var late <-chan time.Time
	for left := n; left > 0; {
		select {
		case o := <-done:
			left--
			if errs[o.k] = o.err; o.err == nil && late == nil {
				late = time.After(i.grace)
			}
		case <-late:
			stop()
		}
	}
	return errs
}
