// Package nbd attaches LUNs of an array on another machine over NBD, without any
// SCSI or NVMe in this machine's kernel. What is needed is the kernel's NBD client,
//
//	/dev/nbd2000      the kernel; the LUN's name is its backend identifier
//	  {dir}/naa.…/s   a socket: nbdkit, as below
//
// or FUSE and the loop driver:
//
//	/dev/loopN        loop driver, direct I/O; the LUN's name on it (package loop)
//	  {dir}/naa.…/    a file that FUSE shows: nbdfuse (package libnbd-bin)
//	    a socket      nbdkit with its plugin nbd (package nbdkit): TLS with this
//	                  host's key, connecting again when the connection breaks
//	      the network
//	        the array's server for this host
//
// nbdfuse and the kernel cannot speak TLS with a key, and do not connect again;
// nbdkit does both. The two are one process group for each LUN, and outlive the daemon
// (package outlive): it may be killed under I/O. What is attached is found again
// by the device, which bears the LUN's name, and its processes by their
// record in the LUN's folder.
//
// Other ways of the same kind were tried and are not here. A FUSE export of
// qemu-storage-daemon under a loop device with direct I/O stores wrong data
// without any error. TestRandomWrites compares this one with a shadow in memory.
//
// # When the array does not answer
//
// A request waits while nbdkit connects again, [retries] seconds long if the
// array refuses or is not there, and then is an I/O error. A network that only
// swallows packets is noticed by TCP itself, in [silence], which has to be told
// so: the program cannot, so the daemon does it from outside (watch.go).
package nbd
