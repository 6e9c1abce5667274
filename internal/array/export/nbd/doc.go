// Package nbd exports LUNs over NBD, for hosts whose kernels have no SCSI, by
// QEMU's storage daemon (qemu-storage-daemon, Debian package
// qemu-system-common), which is driven over its control socket.
//
// # One server for each host
//
// A host has a server of its own as long as it has a LUN attached, at a port of
// its own, and a server knows one key: the host's. So a host that guesses the
// name of another's export finds nobody who knows of it, and what a host may
// have is said by what its server has open, not by a list somebody has to look
// at. Connections are TLS with a pre-shared key (RFC 4279), which proves both
// sides to each other; who has no key, or no TLS, is refused. With certificates
// the server would have to be told which name may have which export; a key needs
// no names.
//
// Taking a host's right away is ending its server: every connection of it ends
// with that, at once. An export of one LUN is removed by the server itself, with
// the connections that use it.
//
// # What is where
//
//	{array's folder}/nbd/{host}/keys.psk       the key, read at every connection
//	                            dh-params.pem  a prime number, see prime.go
//	                            qmp            the control socket
//	                            process.json   the server, see package outlive
//
// An export is called by the LUN's identifier, and its node by whether it may be
// written. So what a server exports is asked of the server and never remembered:
// an array that was killed finds its servers, asks, and mends what is different
// ([Export.Reconcile]). Meanwhile they serve on. One that ends by itself is
// started again.
//
// A LUN is flushed after every write: what was acknowledged to a host is on the
// array's disk. A host that stays up while the
// array loses its power connects again and does not write again what it believes
// is there.
package nbd
