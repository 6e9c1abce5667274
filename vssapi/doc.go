// Package vssapi is VsBackup.h in Go, letter by letter: the same interfaces,
// method names, orders of parameters and result codes, for those who port a
// requester, or who read Microsoft's pages beside the code. There is no logic
// in it: every method is one of package requester, which is what a new program
// should use.
//
// What C++ has and Go has not is written like this:
//
//   - HRESULT is [vss.HResult], VSS_ID is [vss.ID], a BSTR or VSS_PWSZ is a
//     string, and NULL is "". Strings have no owner, and nothing frees them.
//   - An out parameter is a pointer; a nil one is E_INVALIDARG, or E_POINTER for
//     IVssEnumObject::Next. After a failure the zero value is in it.
//   - QueryInterface takes a pointer to the interface that is wanted, as
//     IID_PPV_ARGS makes of one; E_NOINTERFACE if the object has it not.
//   - Objects count their references. The last Release lets go of the object;
//     from then on it answers VSS_E_BAD_STATE.
//
// The service is the one whose socket [SetEndpoint], else the environment's
// UMBRA_SOCKET names, else this machine's.
package vssapi
