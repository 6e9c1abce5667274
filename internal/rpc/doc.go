// Package rpc is the plumbing under Umbra's remote calls: Connect over HTTP/2
// on unix sockets (and, for arrays, mutual TLS on TCP).
//
// It does three things. [Interceptor] carries *vss.Error losslessly both ways
// and turns a handler's panic into VSS_E_UNEXPECTED. [NewUnixServer] serves
// HTTP/2 without TLS on a unix socket and knows who called, from the socket's
// peer credentials ([Peer]). [UnixClient] is its counterpart.
package rpc
