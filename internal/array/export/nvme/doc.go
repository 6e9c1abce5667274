// Package nvme exports LUNs over NVMe/TCP, through nvmet, the kernel's own
// target, which is driven by folders, links and small files of configfs.
//
// # What is where
//
//	hosts/nqn.…:{host}                        an enrolled host, with its DH-HMAC-CHAP secrets
//	subsystems/nqn.…:array.{id}.{host}        what that host sees, and nobody else
//	  allowed_hosts/nqn.…:{host}              the one host that may connect
//	  namespaces/N                            a LUN of the host's, at its own number N
//	ports/748N                                a portal; it listens while a subsystem is linked to it
//
// NVMe masks by subsystem: who may connect to one sees all its namespaces. So
// every host has one of its own.
//
// # What a namespace is made of
//
// nvmet opens what it exports for writing, always, and has no write protection
// that a host could not take off. And it counts a file's blocks by the
// filesystem it lies on, so that one LUN would have blocks of 512 bytes over
// iSCSI and of 4096 here, and its partitions and XFS would not be found. A LUN is
// therefore exported as a block device ([backings]):
//
//	original    its file under a loop device
//	copy        its file, opened for reading only, under a loop device, which
//	            fails every write; and over that a device-mapper device, which
//	            nvmet can open, because it does not say that it is read-only
//
// nvmet tells hosts that it has a write cache and offers no way to be without
// one. As over iSCSI, an acknowledged write is on the array's disk all the same
// ([syncWrites]): a host that stays up when the array's power fails does not
// write it again.
//
// # Orders that matter
//
// A namespace is named before it is enabled. Of a new host everything is in
// place before its subsystem is linked to a portal, and of a host that is
// revoked the namespaces go first: it is told so while it is still connected,
// and its disks go at once instead of waiting for a target that does not come
// back. nvmet keeps a session of a host that is no longer allowed; what ends it
// is to take the subsystem from the portals.
//
// What the kernel exports outlives the array's process. The next one reads it
// ([Target.Reconcile]), makes it what the database says, and reports what was
// not.
package nvme
