// Package story is what `make demo` tells where there are no rights to use this
// machine's own devices: the same as `umbra demo`, on virtual machines. Two
// volumes of A, real SCSI disks of an array over iSCSI, are copied at one
// instant while they are written to; A is switched off; B imports the copies
// from the document alone, and what it reads is a prefix of what A wrote, across
// both volumes, with nothing copied.
package story
