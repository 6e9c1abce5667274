// Package lvm reads what LVM has written on a disk: that it is a physical
// volume, of which volume group, and where on the group's disks each logical
// volume lies.
//
// The kernel tells where a logical volume lies while it is active, but not what
// it is: device-mapper knows names and UUIDs, not which disk is which of the
// group, nor which of its disks are missing. On the machine that imports copies
// nothing is active, and must not be. So the disks are read, without LVM's own
// programs, which take locks, scan everything and may write.
//
// A disk says it in three steps, all of which carry checksums. One of its first
// four sectors is a label. The label leads to a header with the physical
// volume's UUID and the places of its metadata areas. A metadata area is a ring
// of text, and its header says where in the ring the text of now begins. Each
// disk of a group has the whole group's text, unless its administrator wished
// that only some have it: [Read] then says so with an empty [Group].
//
// What is read may be a copy's, and a copy may be anything. Every size, count
// and depth has a limit, nothing is allocated on a disk's word beyond them, and
// a text that does not fit together is an error, never half a group.
package lvm
