// Package block is this machine's block devices: what they are, what they say
// of themselves, when they come and go.
//
// # A device is a disk sequence number, not a name
//
// /dev/loop3 is whatever was attached there last, and so is /dev/sdc. What
// stays with one attachment, and is never used again until the machine boots,
// is the kernel's disk sequence number. A [Device] remembers it; [Verify] and
// [Open] compare it, and everything in Umbra that mounts, detaches or changes
// a flag goes through them. A device that was replaced behind our back is
// VSS_E_OBJECT_NOT_FOUND, never the wrong disk.
//
// # Whose device
//
// The kernel shows every loop device to every process of the machine, although
// two Umbra hosts may share that machine (each in its own namespaces). A loop
// device that Umbra attached therefore carries its LUN's identifier and its
// owner in its name field, see [LoopName]; [Enumerate] leaves out those of
// other hosts, as disks on another machine's SCSI bus are left out.
//
// # Arrivals
//
// [Watch] must be opened before LUNs are unmasked, and Enumerate called once
// after, so that nothing is missed between the two. A watcher may say "again"
// at any time, when it has lost events; the answer is to enumerate again.
//
// Functions are safe for concurrent use. Values are plain data.
package block
