// Package surface makes a volume of attached LUNs a block device of its own.
//
// An import has LUNs. The volume that was asked for may be one of several
// partitions of a LUN, or a logical volume across several. Where it lies is
// known from the document: extents, from the beginning of each LUN. Names,
// partition numbers and volume groups play no part, so what production calls
// its volumes cannot collide with what this machine calls its own.
//
// What makes the device depends on what is there, in this order:
//
//	the LUN itself          if the volume is the whole of it
//	the kernel's partition  if one has exactly these bytes
//	a partition added       if the disk takes one (BLKPG): no layer between
//	a loop device           over the LUN, with offset and limit, read-only
//	device-mapper           for a volume of several extents or LUNs, read-only
//
// # Hidden
//
// Every device made here is as hidden as the LUN below it, from its first event
// on. Partitions are matched through their parent. The name of a loop device's
// backing file, which udev's rules see, is the LUN's: the LUN is opened by a node
// of that name, which is gone a moment later. Device-mapper devices have a UUID
// that package hide knows.
//
// # Nothing is remembered here
//
// What was made is found again by what the kernel says of it: whose it is (the
// host's tag is in its name) and which bytes of which device it has. So
// [Surfacer.Surface] may be called again after any crash, and returns what is
// there; and [Surfacer.Clear] finds what stands on a LUN that is to go. Callers
// record the devices, with the disk sequence number by which packages block and
// filesystem check them before every use.
package surface
