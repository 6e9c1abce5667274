package access

import (
	"context"
	"errors"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// DefaultOperatorsGroup need not exist; any other that is configured must.
const DefaultOperatorsGroup = "umbra"

// Config is the configuration's [access].
type Config struct {
	OperatorsGroup string          `toml:"operators_group"` // whose members may do everything; "" for none
	Accounts       map[string]Role `toml:"accounts"`        // "user" or "@group", by name or number
}

// Policy is a configuration that was understood.
type Policy struct {
	config Config
	users  map[uint32]Role
	groups map[uint32]Role
	book   book
}

// New reads a configuration. A user, group or role it does not know is
// E_INVALIDARG.
func New(c Config, from Accounts) (*Policy, error) {
	p := &Policy{config: c, users: map[uint32]Role{}, groups: map[uint32]Role{}, book: book{from: from, operators: c.OperatorsGroup}}
	for name, role := range c.Accounts {
		bad := func(reason, remedy string) error {
			return &vss.Error{Code: vss.E_INVALIDARG, Op: "read configuration", Object: "access.accounts: " + strconv.Quote(name), Reason: reason, Remedy: remedy}
		}
		if role > Both {
			return nil, bad(role.String()+" is no role", "The roles are none, writer, requester and both")
		}
		plain, isGroup := strings.CutPrefix(name, "@")
		kind, look, into := "user", from.UserID, p.users
		if isGroup {
			kind, look, into = "group", from.GroupID, p.groups
		}
		id, err := number(plain)
		if err != nil {
			id, err = look(plain)
		}
		switch {
		case err != nil:
			e := bad("there is no such "+kind+" on this machine", "Correct the name, make the "+kind+", or give its number; groups begin with @").(*vss.Error)
			if !unknown(err) {
				e.Reason, e.Err = "the "+kind+" cannot be looked up", err
			}
			return nil, e
		case kind == "user" && id == 0:
			return nil, bad("root may do everything, whatever is written here", "Remove the entry")
		}
		if other, twice := into[id]; twice && other != role {
			return nil, bad("two entries name this "+kind+" and give it different roles", "Keep one of them")
		}
		into[id] = role
	}
	if g := c.OperatorsGroup; g != "" && g != DefaultOperatorsGroup {
		if _, err := from.GroupID(g); err != nil {
			return nil, &vss.Error{Code: vss.E_INVALIDARG, Op: "read configuration", Object: "access.operators_group: " + strconv.Quote(g),
				Reason: "the group cannot be looked up", Remedy: "Make the group, correct its name, or write \"\" for none", Err: err}
		}
	}
	return p, nil
}

func unknown(err error) bool {
	var u user.UnknownUserError
	var g user.UnknownGroupError
	return errors.As(err, &u) || errors.As(err, &g)
}

// Allowed says whether the caller may be what role says: nil or E_ACCESSDENIED.
// It waits for the account database for a limited time only; a caller whose
// groups cannot be known is denied.
func (p *Policy) Allowed(ctx context.Context, c rpc.Credentials, role Role) error {
	if c.UID == 0 {
		return nil
	}
	if p == nil {
		return denied(c, "the service has no list of who may call it", "Run it as root", nil)
	}
	has, err := p.role(ctx, c)
	switch {
	case err != nil:
		return denied(c, "its groups cannot be looked up", "See what is wrong with the account database (getent group); root can always call", err)
	case has&role == role:
		return nil
	}
	remedy := "Run it as root, or let the account in: see [access] in the daemon's configuration"
	if p.config.OperatorsGroup != "" {
		remedy = "Run it as root, add the user to group " + p.config.OperatorsGroup + ", or let the account in: see [access] in the daemon's configuration"
	}
	if has == None {
		return denied(c, "the account may not use the service", remedy, nil)
	}
	return denied(c, "the account may be a "+has.String()+", not a "+role.String(), remedy, nil)
}

// Unknown is the error for a caller nothing is known of.
func Unknown() error {
	return &vss.Error{Code: vss.E_ACCESSDENIED, Object: "unknown caller", Reason: "the connection does not say who calls", Remedy: "Call over the service's unix socket"}
}

func denied(c rpc.Credentials, reason, remedy string, err error) error {
	return &vss.Error{Code: vss.E_ACCESSDENIED, Object: "user " + strconv.FormatUint(uint64(c.UID), 10), Reason: reason, Remedy: remedy, Err: err}
}

// role is what the caller may be.
func (p *Policy) role(ctx context.Context, c rpc.Credentials) (Role, error) {
	own, named := p.users[c.UID]
	if named && own == None {
		return None, nil
	}
	known, err := p.book.of(ctx, c.UID)
	if err != nil {
		return None, err
	}
	// What the database says, and what the process was given when it began: one
	// of them may be older, and the database may not have network accounts.
	groups := slices.Concat(known.groups, c.Groups, []uint32{c.GID})
	together := None
	for _, g := range groups {
		r, listed := p.groups[g]
		if listed && r == None {
			return None, nil
		}
		if !listed && known.exists && g == known.operators {
			r = Both
		}
		together |= r
	}
	if named {
		return own, nil
	}
	return together, nil
}
