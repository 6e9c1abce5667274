package access

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-vss/umbra/internal/rpc"
	"github.com/umbra-vss/umbra/vss"
)

// database is an account database in memory.
type database struct {
	mu     sync.Mutex
	users  map[string]uint32
	groups map[string]uint32
	member map[uint32][]uint32
	asked  int
	err    error
	hang   chan struct{}
}

func (d *database) UserID(name string) (uint32, error) {
	if id, ok := d.users[name]; ok {
		return id, nil
	}
	return 0, user.UnknownUserError(name)
}

func (d *database) GroupID(name string) (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id, ok := d.groups[name]; ok {
		return id, nil
	}
	return 0, user.UnknownGroupError(name)
}

func (d *database) GroupsOf(uid uint32) ([]uint32, error) {
	d.mu.Lock()
	d.asked++
	hang := d.hang
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.member[uid], d.err
}

// People: ann is an operator, bob a DBA, cyd both, dan nothing.
const ann, bob, cyd, dan, operators, dba = 1001, 1002, 1003, 1004, 70, 80

func people() *database {
	return &database{
		users:  map[string]uint32{"root": 0, "ann": ann, "bob": bob, "cyd": cyd, "dan": dan},
		groups: map[string]uint32{"umbra": operators, "dba": dba},
		member: map[uint32][]uint32{ann: {ann, operators}, bob: {bob, dba}, cyd: {cyd, operators, dba}, dan: {dan}},
	}
}

func policy(t *testing.T, c Config, d *database) *Policy {
	t.Helper()
	p, err := New(c, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// may is what an account is allowed: "-", "w", "r" or "wr".
func may(t *testing.T, p *Policy, c rpc.Credentials) string {
	t.Helper()
	out := ""
	for role, letter := range map[Role]string{Writer: "w", Requester: "r"} {
		err := p.Allowed(t.Context(), c, role)
		if err == nil && letter == "w" {
			out = letter + out
		} else if err == nil {
			out += letter
		} else if e := vss.AsError("", err); e.Code != vss.E_ACCESSDENIED || e.Reason == "" || e.Remedy == "" || e.Object == "" {
			t.Errorf("%+v: refused with %+v", c, e)
		}
	}
	if out == "" {
		return "-"
	}
	return out
}

func TestRules(t *testing.T) {
	type list = map[string]Role
	for _, tt := range []struct {
		name                 string
		group                string
		accounts             list
		ann, bob, cyd, other string
	}{
		{"defaults", "umbra", nil, "wr", "-", "wr", "-"},
		{"no operators", "", nil, "-", "-", "-", "-"},
		{"a user by name", "umbra", list{"bob": Requester}, "wr", "r", "wr", "-"},
		{"a user by number", "umbra", list{"1004": Writer}, "wr", "-", "wr", "w"},
		{"a group", "umbra", list{"@dba": Writer}, "wr", "w", "wr", "-"},
		{"a group by number", "", list{"@80": Both}, "-", "wr", "wr", "-"},
		{"none for a user outweighs its groups", "umbra", list{"ann": None, "@dba": Both}, "-", "wr", "wr", "-"},
		{"none for a group outweighs another", "umbra", list{"@dba": None}, "wr", "-", "-", "-"},
		{"none for a group outweighs the user's entry", "umbra", list{"@dba": None, "cyd": Both, "bob": Writer}, "wr", "-", "-", "-"},
		{"a user's entry is all it may be", "umbra", list{"ann": Writer, "cyd": Requester}, "w", "-", "r", "-"},
		{"groups together", "", list{"@umbra": Requester, "@dba": Writer}, "r", "w", "wr", "-"},
		{"the operators group's own entry", "umbra", list{"@umbra": Requester}, "r", "-", "r", "-"},
		{"the operators group denied", "umbra", list{"@umbra": None}, "-", "-", "-", "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := policy(t, Config{tt.group, tt.accounts}, people())
			for _, who := range []struct {
				uid  uint32
				want string
			}{{0, "wr"}, {ann, tt.ann}, {bob, tt.bob}, {cyd, tt.cyd}, {dan, tt.other}} {
				if got := may(t, p, rpc.Credentials{UID: who.uid, GID: who.uid}); got != who.want {
					t.Errorf("user %d may %q, want %q", who.uid, got, who.want)
				}
			}
		})
	}
}

// TestGroupsOfTheProcess: what a process runs as counts beside what the
// database says, for and against it.
func TestGroupsOfTheProcess(t *testing.T) {
	p := policy(t, Config{"umbra", map[string]Role{"@dba": None}}, people())
	for _, tt := range []struct {
		c    rpc.Credentials
		want string
	}{
		{rpc.Credentials{UID: dan, GID: operators}, "wr"},
		{rpc.Credentials{UID: dan, GID: dan, Groups: []uint32{5, operators}}, "wr"},
		{rpc.Credentials{UID: 4711, GID: 1, Groups: []uint32{operators}}, "wr"}, // not in the database
		{rpc.Credentials{UID: ann, GID: ann, Groups: []uint32{dba}}, "-"},
		{rpc.Credentials{UID: bob, GID: operators}, "-"}, // put the group off: the database knows
	} {
		if got := may(t, p, tt.c); got != tt.want {
			t.Errorf("%+v may %q, want %q", tt.c, got, tt.want)
		}
	}
}

func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, tt := range []struct {
		c           Config
		object, why string
	}{
		{Config{"umbra", map[string]Role{"eve": Both}}, `"eve"`, "no such user"},
		{Config{"umbra", map[string]Role{"@ops": Both}}, `"@ops"`, "no such group"},
		{Config{"umbra", map[string]Role{"dba": Both}}, `"dba"`, "no such user"},
		{Config{"umbra", map[string]Role{"ann": 4}}, `"ann"`, "no role"},
		{Config{"umbra", map[string]Role{"root": None}}, `"root"`, "root may do everything"},
		{Config{"umbra", map[string]Role{"0": Both}}, `"0"`, "root may do everything"},
		{Config{"umbra", map[string]Role{"ann": None, "1001": Both}}, "100", "two entries"},
		{Config{"ops", nil}, `"ops"`, "looked up"},
		{Config{"umbra", map[string]Role{"": Both}}, `""`, "no such user"},
	} {
		_, err := New(tt.c, people())
		e := vss.AsError("", err)
		if e == nil || e.Code != vss.E_INVALIDARG || !strings.Contains(e.Reason, tt.why) || e.Remedy == "" ||
			(!strings.Contains(e.Object, tt.object) && tt.object != "100") {
			t.Errorf("%+v: %+v", tt.c, e)
		}
	}
	var r Role
	for text, want := range map[string]Role{"none": None, "1": Writer, "requester": Requester, "3": Both} {
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%s: %v, %v", text, r, err)
		}
	}
	for _, text := range []string{"", "4", "admin", "None", "-1"} {
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a role", text)
		}
	}
}

// TestWithoutPolicy: a service that was put together without one is root's.
func TestWithoutPolicy(t *testing.T) {
	var p *Policy
	if got := may(t, p, rpc.Credentials{}) + may(t, p, rpc.Credentials{UID: ann, GID: operators}); got != "wr-" {
		t.Error(got)
	}
}

// TestRemembers: the database is asked once for each user in 30 s, whatever
// happens at once, and what changed counts after that.
func TestRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := people()
		delete(d.groups, "umbra") // is made later
		p := policy(t, Config{OperatorsGroup: "umbra"}, d)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if may(t, p, rpc.Credentials{UID: ann, GID: ann}) != "-" {
					t.Error("allowed by a group that does not exist")
				}
			})
		}
		all.Wait()
		if d.asked != 1 {
			t.Errorf("asked %d times", d.asked)
		}
		d.groups["umbra"] = operators
		time.Sleep(remember + time.Second)
		if got := may(t, p, rpc.Credentials{UID: ann, GID: ann}); got != "wr" || d.asked != 2 {
			t.Errorf("%s, asked %d times", got, d.asked)
		}
		for uid := range uint32(3 * maxUsers) {
			_ = may(t, p, rpc.Credentials{UID: 5000 + uid, GID: 1})
		}
		if n := len(p.book.users); n > maxUsers {
			t.Errorf("%d users are remembered", n)
		}
	})
}

// TestDatabaseTrouble: who cannot be looked up is denied, in time, and only so
// many look-ups hang.
func TestDatabaseTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := people()
		d.err = errors.New("corrupt")
		p := policy(t, Config{"umbra", map[string]Role{"dan": None}}, d)
		as := rpc.Credentials{UID: ann, GID: operators}
		if err := p.Allowed(t.Context(), as, Requester); vss.CodeOf(err) != vss.E_ACCESSDENIED || !errors.Is(err, d.err) {
			t.Error(err)
		}
		d.err = nil
		if err := p.Allowed(t.Context(), as, Requester); err != nil {
			t.Errorf("an error is remembered: %v", err)
		}

		d.hang = make(chan struct{})
		began := time.Now()
		var all sync.WaitGroup
		var mu sync.Mutex
		kinds := map[string]int{}
		var asked uint32 // one that is being looked up: which are is the scheduler's choice
		for uid := range uint32(3 * maxAsking) {
			all.Go(func() {
				err := p.Allowed(t.Context(), rpc.Credentials{UID: 5000 + uid, GID: operators}, Requester)
				mu.Lock()
				defer mu.Unlock()
				kinds[fmt.Sprint(vss.CodeOf(err), errors.Is(err, errSlow), errors.Is(err, errBusy))]++
				if errors.Is(err, errSlow) {
					asked = 5000 + uid
				}
			})
		}
		all.Wait()
		slow, busy := fmt.Sprint(vss.E_ACCESSDENIED, true, false), fmt.Sprint(vss.E_ACCESSDENIED, false, true)
		if kinds[slow] != maxAsking || kinds[busy] != 2*maxAsking || time.Since(began) > patience {
			t.Errorf("%v after %v", kinds, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Allowed(ctx, rpc.Credentials{UID: asked, GID: 1}, Requester); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that has gone: %v", err)
		}
		if err := p.Allowed(t.Context(), rpc.Credentials{}, Requester); err != nil {
			t.Errorf("root: %v", err)
		}
		if err := p.Allowed(t.Context(), rpc.Credentials{UID: dan}, Requester); vss.CodeOf(err) != vss.E_ACCESSDENIED || errors.Is(err, errBusy) {
			t.Errorf("one who is denied by name: %v", err)
		}
		close(d.hang)
		synctest.Wait()
		if err := p.Allowed(t.Context(), rpc.Credentials{UID: 5000, GID: operators}, Requester); err != nil {
			t.Errorf("after the trouble: %v", err)
		}
	})
}

// TestSystem asks the real database.
func TestSystem(t *testing.T) {
	uid, err := System{}.UserID("root")
	gs, gerr := System{}.GroupsOf(0)
	if uid != 0 || err != nil || gerr != nil || len(gs) == 0 || gs[0] != 0 {
		t.Errorf("%d, %v, %v, %v", uid, err, gs, gerr)
	}
	if _, err := (System{}).UserID("nobody-of-that-name"); !unknown(err) {
		t.Error(err)
	}
	if _, err := (System{}).GroupID("nobody-of-that-name"); !unknown(err) {
		t.Error(err)
	}
	if gs, err := (System{}).GroupsOf(4000000000); len(gs) != 0 || err != nil {
		t.Errorf("%v, %v", gs, err)
	}
}
