package client

import (
	"slices"
	"sync"
	"time"

	arrayv1 "github.com/umbra-vss/umbra/internal/gen/umbra/array/v1"
	"github.com/umbra-vss/umbra/lun"
)

// promiseLife is shorter than the array's own limit, half a minute.
const promiseLife = 20 * time.Second

// promises keeps what the last LocateLUNs brought along, so that an import need
// not ask for it: what the LUNs are, and the token by which they are fetched.
// Each is given away once. The array has fixed the LUNs for this host by then;
// what this host itself does to them makes it forget.
type promises struct {
	mu     sync.Mutex
	luns   []lun.NAA
	states []State
	open   *arrayv1.OpenLUNsResponse
	at     time.Time
}

func (p *promises) keep(luns []lun.NAA, states []State, open *arrayv1.OpenLUNsResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.luns, p.states, p.open, p.at = slices.Clone(luns), states, open, time.Now()
}

// describe gives away what the LUNs are, in this order; nil if it is not known.
func (p *promises) describe(luns []lun.NAA) []State {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.states == nil || !p.covers(luns) {
		return nil
	}
	out := make([]State, len(luns))
	for i, n := range luns {
		out[i] = p.states[slices.Index(p.luns, n)]
	}
	p.states = nil
	return out
}

// covers: the promise is fresh and for exactly these LUNs. p.mu is held.
func (p *promises) covers(luns []lun.NAA) bool {
	if len(luns) != len(p.luns) || time.Since(p.at) > promiseLife {
		return false
	}
	return !slices.ContainsFunc(luns, func(n lun.NAA) bool { return !slices.Contains(p.luns, n) })
}

// take gives the promise for exactly these LUNs away, with their order in it;
// nil if there is none.
func (p *promises) take(luns []lun.NAA) (*arrayv1.OpenLUNsResponse, []lun.NAA) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil || !p.covers(luns) {
		return nil, nil
	}
	open := p.open
	p.open = nil
	return open, p.luns
}

// forget drops it: the LUNs are given back.
func (p *promises) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states, p.open = nil, nil
}
