// Package regroup shows a copy's volume group to LVM under another identity: a
// new name and new UUIDs, beside the original on the same machine if need be.
//
// Nothing of the copy is changed. Package lvm describes the group anew, package
// surface makes disks of that description and of the LUNs' extents, all of it
// read-only, and LVM's own program, which knows how, activates the group's volumes.
// They have links as LVM gives them, /dev/GROUP/VOLUME, and udev's rules give
// them no others: what is on a volume says the same of itself as its original
// does, and must not be taken for it by UUID or label.
//
// The order is made so that nothing need be remembered: disks first, then the
// volumes; and back: volumes, which is where a user is found out, then disks, with
// which the description in memory goes. [Shower.Show] of a group that is there
// finds it, and of one that is half there makes it anew. [Shower.End] ends either.
package regroup
