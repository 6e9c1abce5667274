package access

import (
	"context"
	"errors"
	"os/user"
	"strconv"
	"sync"
	"time"
)

// Accounts is the machine's account database.
type Accounts interface {
	UserID(name string) (uint32, error)    // user.UnknownUserError if there is none
	GroupID(name string) (uint32, error)   // user.UnknownGroupError if there is none
	GroupsOf(uid uint32) ([]uint32, error) // none for a user the database does not have
}

// System is the account database of this machine.
type System struct{}

// UserID looks a user up by name.
func (System) UserID(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return number(u.Uid)
}

// GroupID looks a group up by name.
func (System) GroupID(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return number(g.Gid)
}

// GroupsOf lists the groups of a user.
func (System) GroupsOf(uid uint32) ([]uint32, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	var unknown user.UnknownUserIdError
	if errors.As(err, &unknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ids, err := u.GroupIds()
	var out []uint32
	for _, id := range ids {
		n, err := number(id)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, err
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// The bounds of looking up: how long an answer counts, how long a caller waits
// for one, how many users are remembered and how many look-ups run at once. A
// database that hangs (a directory on a network) costs that many goroutines.
const (
	remember  = 30 * time.Second
	patience  = 5 * time.Second
	maxUsers  = 256
	maxAsking = 8
)

var (
	errSlow = errors.New("the account database does not answer")
	errBusy = errors.New("too many look-ups in the account database are under way")
)

// book remembers what groups users are in, for a while. Who asks for the same
// user while it is being looked up waits for the same answer.
type book struct {
	from      Accounts
	operators string // name of the operators group, "" for none
	mu        sync.Mutex
	users     map[uint32]*entry
	asking    int
}

type entry struct {
	done  chan struct{} // closed when known and err are there
	until time.Time     // of the answer; zero while it is looked up
	known known
	err   error
}

// known is what the account database says of a user. The operators group
// belongs to it: it may be made, or made anew, while the service runs.
type known struct {
	groups    []uint32
	operators uint32
	exists    bool // the operators group does
}

func (b *book) look(uid uint32) (k known, err error) {
	if k.groups, err = b.from.GroupsOf(uid); err != nil || b.operators == "" {
		return k, err
	}
	k.operators, err = b.from.GroupID(b.operators)
	k.exists = err == nil
	if unknown(err) {
		err = nil
	}
	return k, err
}

func (b *book) of(ctx context.Context, uid uint32) (known, error) {
	e, err := b.entry(uid)
	if err != nil {
		return known{}, err
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-e.done:
		return e.known, e.err
	case <-t.C:
		return known{}, errSlow
	case <-ctx.Done():
		return known{}, context.Cause(ctx)
	}
}

// entry returns the user's entry, and begins to look it up if it has to.
func (b *book) entry(uid uint32) (*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if e := b.users[uid]; e != nil && (e.until.IsZero() || now.Before(e.until)) {
		return e, nil
	}
	if b.asking >= maxAsking {
		return nil, errBusy
	}
	b.asking++
	e := &entry{done: make(chan struct{})}
	if b.users == nil || len(b.users) >= maxUsers {
		b.users = b.unfinished() // simple, and it only costs looking up again
	}
	b.users[uid] = e
	go func() {
		k, err := b.look(uid)
		b.mu.Lock()
		e.known, e.err, e.until = k, err, time.Now().Add(remember)
		if err != nil {
			e.until = time.Now() // who waits gets the error, the next one asks again
		}
		b.asking--
		b.mu.Unlock()
		close(e.done)
	}()
	return e, nil
}

// unfinished are the entries somebody is still looking up.
func (b *book) unfinished() map[uint32]*entry {
	out := map[uint32]*entry{}
	for uid, e := range b.users {
		if e.until.IsZero() {
			out[uid] = e
		}
	}
	return out
}
