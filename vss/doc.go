// Package vss is Umbra's vocabulary: the result codes, contexts, attribute
// bits, states and property structures of the Volume Shadow Copy Service
// model, with the exact numbers of the public headers.
//
// Everything that crosses a boundary in Umbra (service to requester, service
// to provider, array to host) is said in these words. An [Error] carries the
// [HResult] a caller can act on, what was being done, the object it was done
// to, why it failed and what helps; an [ID] names sets, copies, providers and
// sessions. The package has no behaviour beyond formatting and matching, and
// imports nothing of Umbra.
//
// Names are the names of the headers, prefix and all (VSS_E_BAD_STATE,
// E_ACCESSDENIED), because that is what users search for and because
// E_UNEXPECTED and VSS_E_UNEXPECTED are two different codes.
package vss
