package vssapi

import (
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// IVssEnumObject enumerates what a Query found.
type IVssEnumObject interface {
	IUnknown
	// Next puts up to celt objects into rgelt and their number into
	// *pceltFetched. S_FALSE if there were fewer, E_POINTER if there is no room
	// for them.
	Next(celt uint32, rgelt []vss.ObjectProp, pceltFetched *uint32) vss.HResult
	Skip(celt uint32) vss.HResult
	Reset() vss.HResult
	Clone(ppenum *IVssEnumObject) vss.HResult
}

type enum struct {
	references
	e *requester.Enum
}

func (e *enum) QueryInterface(ppv any) vss.HResult {
	if code, done := query[IVssEnumObject](e, ppv); done {
		return code
	}
	code, _ := query[IUnknown](e, ppv)
	return code
}

func (e *enum) Release() uint32 {
	left, _ := e.release()
	return left
}

func (e *enum) Next(celt uint32, rgelt []vss.ObjectProp, pceltFetched *uint32) vss.HResult {
	if pceltFetched == nil || uint64(len(rgelt)) < uint64(celt) {
		return vss.E_POINTER
	}
	*pceltFetched = 0
	if e.released() {
		return vss.VSS_E_BAD_STATE
	}
	found, code, _ := e.e.Next(int(celt))
	*pceltFetched = uint32(copy(rgelt, found))
	return code
}

func (e *enum) Skip(celt uint32) vss.HResult {
	if e.released() {
		return vss.VSS_E_BAD_STATE
	}
	code, _ := e.e.Skip(int(celt))
	return code
}

func (e *enum) Reset() vss.HResult {
	if e.released() {
		return vss.VSS_E_BAD_STATE
	}
	return vss.CodeOf(e.e.Reset())
}

func (e *enum) Clone(ppenum *IVssEnumObject) vss.HResult {
	if ppenum == nil {
		return vss.E_INVALIDARG
	}
	*ppenum = nil
	if e.released() {
		return vss.VSS_E_BAD_STATE
	}
	c, err := e.e.Clone()
	if err == nil {
		*ppenum = &enum{e: c}
	}
	return vss.CodeOf(err)
}
