// Package lvmthin keeps LUNs as thin devices of a device-mapper thin pool. A
// copy takes a message to the kernel, however large or old the LUN is.
//
// # What is where
//
//	VG/umbra-data, VG/umbra-meta   two plain logical volumes, or any two block devices
//	umbra-{array}-pool             the pool on them: ours, LVM knows nothing of it
//	umbra-{array}-{naa}            a LUN: a thin device of the pool
//	{state}/lvmthin.db             which LUN is which device of the pool
//
// LVM keeps what its own thin pools hold in its metadata, with a transaction
// number that it holds against the pool's. A pool that two write to is lost, so
// LVM sees two volumes here that are in use and no more. The pool's transaction
// number says whose it is: a pool with another number is not touched.
//
// # One instant
//
// [Batch.Commit] suspends all sources, has the pool copy each, and resumes them.
// No process is started and nothing else is written. While a device is suspended
// its hosts wait, in a state that no signal ends. So the resume is arranged before
// the suspend, runs whatever comes in between, and the next process begins by
// resuming what it finds suspended.
//
// # What a crash leaves
//
// The number of a thin device is recorded before the device is made and
// forgotten after it is deleted; numbers are never used again. So whatever the
// pool has is on record, and removing a LUN that was never made is success. A LUN
// that is removed while somebody has it open is marked as gone, and deleted when
// the last closes it, or at the next start.
package lvmthin
