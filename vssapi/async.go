package vssapi

import (
	"context"
	"time"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// INFINITE makes IVssAsync::Wait wait without limit.
const INFINITE uint32 = 0xFFFFFFFF

// IVssAsync is an operation under way. Its last Release does not stop it.
type IVssAsync interface {
	IUnknown
	Cancel() vss.HResult
	// Wait waits until the operation has ended or so many milliseconds have
	// passed. S_OK says that the wait ended: QueryStatus says how the operation
	// did. One that fails while it is waited for is Wait's result as well.
	Wait(dwMilliseconds uint32) vss.HResult
	// QueryStatus puts the operation's result into *pHrResult; pReserved must
	// be nil.
	QueryStatus(pHrResult *vss.HResult, pReserved *int32) vss.HResult
}

type async struct {
	references
	op *requester.Async
}

// start gives an operation through an out parameter.
func start(ppAsync *IVssAsync, f func(context.Context) (*requester.Async, error)) vss.HResult {
	if ppAsync == nil {
		return vss.E_INVALIDARG
	}
	*ppAsync = nil
	op, err := f(context.Background())
	if err == nil {
		*ppAsync = &async{op: op}
	}
	return vss.CodeOf(err)
}

func (a *async) QueryInterface(ppv any) vss.HResult {
	if code, done := query[IVssAsync](a, ppv); done {
		return code
	}
	code, _ := query[IUnknown](a, ppv)
	return code
}

func (a *async) Release() uint32 {
	left, last := a.release()
	if last {
		_ = a.op.Release(context.Background())
	}
	return left
}

func (a *async) Cancel() vss.HResult {
	code, _ := a.op.Cancel(context.Background())
	return code
}

func (a *async) Wait(dwMilliseconds uint32) vss.HResult {
	timeout := requester.Infinite
	if dwMilliseconds != INFINITE {
		timeout = time.Duration(dwMilliseconds) * time.Millisecond
	}
	s, err := a.op.WaitFor(context.Background(), timeout)
	switch {
	case err != nil:
		return vss.CodeOf(err)
	case s.Code.Failed() && !s.EndedBeforeCall:
		return s.Code
	}
	return vss.S_OK
}

func (a *async) QueryStatus(pHrResult *vss.HResult, pReserved *int32) vss.HResult {
	if pHrResult == nil || pReserved != nil {
		return vss.E_INVALIDARG
	}
	s, err := a.op.Status(context.Background())
	return put(pHrResult, s.Code, err)
}
