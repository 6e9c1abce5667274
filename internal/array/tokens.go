package array

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/internal/array/fdpass"
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

var (
	fpOpenBeforeToken  = failpoint.New("array.open.before-token")
	fpRedeemBeforeOpen = failpoint.New("array.redeem.before-open")
	fpRedeemAfterOpen  = failpoint.New("array.redeem.after-open")
)

// tokenLife is how long a token may be fetched; tokenMax how many wait at most.
const (
	tokenLife = 30 * time.Second
	tokenMax  = 4096
)

// tokens are the promises to hand out LUNs that no one has come for yet. They
// live in memory: after a restart the host asks again.
type tokens struct {
	mu   sync.Mutex
	open map[fdpass.Token]promise
}

type promise struct {
	host, serial string
	luns         []lun.NAA
	until        time.Time
}

func (t *tokens) issue(p promise, now time.Time) (fdpass.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[fdpass.Token]promise{}
	}
	if len(t.open) >= tokenMax {
		for k, o := range t.open {
			if now.After(o.until) {
				delete(t.open, k)
			}
		}
	}
	if len(t.open) >= tokenMax {
		return fdpass.Token{}, &vss.Error{Code: vss.E_OUTOFMEMORY, Op: "open LUNs", Object: p.host, Reason: "too many tokens wait to be fetched", Remedy: "Repeat it in half a minute"}
	}
	var k fdpass.Token
	rand.Read(k[:])
	p.until = now.Add(tokenLife)
	t.open[k] = p
	return k, nil
}

// take redeems a token: it is gone whether or not it was still good.
func (t *tokens) take(k fdpass.Token, now time.Time) (promise, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.open[k]
	delete(t.open, k)
	return p, ok && now.Before(p.until)
}

// revoke forgets the tokens of a host, or only those that name one of luns.
func (t *tokens) revoke(host string, luns ...lun.NAA) {
	t.mu.Lock()
	defer t.mu.Unlock()
	named := map[lun.NAA]bool{}
	for _, n := range luns {
		named[n] = true
	}
	for k, p := range t.open {
		hit := p.host == host && len(luns) == 0
		for _, n := range p.luns {
			hit = hit || p.host == host && named[n]
		}
		if hit {
			delete(t.open, k)
		}
	}
}

// openLUNs promises descriptors of LUNs the host sees.
func (a *Array) openLUNs(ctx context.Context, h *hostRecord, luns []lun.NAA) (fdpass.Token, []fdpass.LUN, error) {
	const op = "open LUNs"
	if err := fpOpenBeforeToken.Hit(ctx); err != nil {
		return fdpass.Token{}, nil, injected(op, err)
	}
	if len(luns) == 0 || len(luns) > maxSetLUNs {
		return fdpass.Token{}, nil, &vss.Error{Code: vss.E_INVALIDARG, Op: op, Reason: "1 to 1024 LUNs are opened at a time", Remedy: "Open them in several calls"}
	}
	var out []fdpass.LUN
	for _, n := range luns {
		l := a.state.lun(n)
		if l == nil || !l.masked(h.Name) {
			return fdpass.Token{}, nil, notYours(op, n)
		}
		var st unix.Stat_t
		if err := unix.Stat(a.store.Path(n), &st); err != nil {
			return fdpass.Token{}, nil, &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: n.String(), Reason: "its file is missing in the array's store", Remedy: "Check the store, then delete the LUN if its file is lost", Err: err}
		}
		out = append(out, fdpass.LUN{NAA: n, Size: l.Size, Generation: l.Generation, ReadOnly: l.ReadOnly, Dev: st.Dev, Ino: st.Ino})
	}
	k, err := a.tokens.issue(promise{host: h.Name, serial: h.Serial, luns: luns}, a.now())
	return k, out, err
}

// redeem opens what a token stands for, if its host may still have it. It is a
// transaction that changes nothing: while it runs no mask is taken away and no
// LUN deleted, and once it has run the LUNs are marked as held.
func (a *Array) redeem(ctx context.Context, k fdpass.Token) (luns []fdpass.LUN, err error) {
	const op = "open LUNs"
	p, ok := a.tokens.take(k, a.now())
	if !ok {
		return nil, &vss.Error{Code: vss.E_ACCESSDENIED, Op: op, Reason: "the token is unknown, used or too old", Remedy: "Ask the array to open the LUNs again"}
	}
	if err := fpRedeemBeforeOpen.Hit(ctx); err != nil {
		return nil, injected(op, err)
	}
	err = a.state.update(ctx, op, func(t *txn) error {
		h := t.host(p.host)
		if h == nil || h.Serial != p.serial {
			return unknownHost(p.host)
		}
		for _, n := range p.luns {
			l := t.lun(n)
			if l == nil || !l.masked(p.host) {
				return notYours(op, n)
			}
			f, err := a.store.Descriptor(n, l.ReadOnly, h.Slot)
			if err != nil {
				return err
			}
			luns = append(luns, fdpass.LUN{NAA: n, Size: l.Size, Generation: l.Generation, ReadOnly: l.ReadOnly, File: f})
			var st unix.Stat_t
			if err := unix.Fstat(int(f.Fd()), &st); err != nil {
				return &vss.Error{Code: vss.VSS_E_PROVIDER_VETO, Op: op, Object: n.String(), Reason: "its file cannot be read", Remedy: "Check the store", Err: err}
			}
			luns[len(luns)-1].Dev, luns[len(luns)-1].Ino = st.Dev, st.Ino
		}
		return nil
	})
	if err != nil {
		return luns, err
	}
	if err := fpRedeemAfterOpen.Hit(ctx); err != nil {
		return luns, injected(op, err)
	}
	return luns, nil
}
