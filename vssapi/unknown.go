package vssapi

import (
	"os"
	"sync/atomic"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// E_NOINTERFACE is QueryInterface's answer for what an object is not.
const E_NOINTERFACE vss.HResult = 0x80004002

// IUnknown is what all interfaces have.
type IUnknown interface {
	// QueryInterface puts the object into ppv, a pointer to an interface
	// variable, and adds a reference.
	QueryInterface(ppv any) vss.HResult
	AddRef() uint32
	Release() uint32
}

// query is QueryInterface for one interface: done if ppv is a pointer to it.
func query[I IUnknown](object I, ppv any) (code vss.HResult, done bool) {
	pp, ok := ppv.(*I)
	switch {
	case !ok:
		return E_NOINTERFACE, false
	case pp == nil:
		return vss.E_INVALIDARG, true
	case object.AddRef() == 0:
		return vss.VSS_E_BAD_STATE, true
	}
	*pp = object
	return vss.S_OK, true
}

// references counts the references to an object. It begins with one.
type references struct{ more atomic.Int32 }

// AddRef adds a reference and returns how many there are: none of an object
// that was released, which does not come back.
func (r *references) AddRef() uint32 {
	for {
		n := r.more.Load()
		if n < 0 {
			return 0
		}
		if r.more.CompareAndSwap(n, n+1) {
			return uint32(n + 2)
		}
	}
}

// release takes a reference away; last is true for the last one, once.
func (r *references) release() (left uint32, last bool) {
	for {
		n := r.more.Load()
		if n < 0 {
			return 0, false
		}
		if r.more.CompareAndSwap(n, n-1) {
			return uint32(n), n == 0
		}
	}
}

func (r *references) released() bool { return r.more.Load() < 0 }

// put gives a result through an out parameter that is not nil.
func put[T any](p *T, v T, err error) vss.HResult {
	if err != nil {
		var zero T
		v = zero
	}
	*p = v
	return vss.CodeOf(err)
}

var endpoint atomic.Value

// SetEndpoint says where the service listens, as requester.Endpoint takes it,
// for all objects made from then on; "" is where it was at first.
func SetEndpoint(e string) { endpoint.Store(e) }

func where() requester.Option {
	e, _ := endpoint.Load().(string)
	if e == "" {
		e = os.Getenv("UMBRA_SOCKET")
	}
	if e == "" {
		e = requester.DefaultEndpoint
	}
	return requester.Endpoint(e)
}
