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

// promises keeps what the last LocateLUNs brought along: the token by which its
// LUNs are fetched, so that an import need not ask for it.
type promises struct {
	mu   sync.Mutex
	luns []lun.NAA
	open *arrayv1.OpenLUNsResponse
	at   time.Time
}

func (p *promises) keep(luns []lun.NAA, open *arrayv1.OpenLUNsResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.luns, p.open, p.at = slices.Clone(luns), open, time.Now()
}

// take gives the promise for exactly these LUNs away, with their order in it;
// nil if there is none.
func (p *promises) take(luns []lun.NAA) (*arrayv1.OpenLUNsResponse, []lun.NAA) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil || len(luns) != len(p.luns) || time.Since(p.at) > promiseLife {
		return nil, nil
	}
	for _, n := range luns {
		if !slices.Contains(p.luns, n) {
			return nil, nil
		}
	}
	open := p.open
	p.open = nil
	return open, p.luns
}

// forget drops it: the LUNs are given back.
func (p *promises) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = nil
}
