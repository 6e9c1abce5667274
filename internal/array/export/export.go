// Package export is what the array and its network exports agree on: who may
// have a LUN, and how. Each transport is a sub-package, and knows nothing of
// sets, hosts' names or tickets; the array knows nothing of targets.
//
// The array says what is to be, a LUN at a time and always whole ([LUN]); an
// export makes it so, whatever was before. So the same call exports a LUN,
// takes it away from one initiator, opens and closes its writable window, and
// mends what somebody changed by hand.
package export

import "github.com/umbra-vss/umbra/lun"

// Secret is a user and password of CHAP.
type Secret struct{ User, Password string }

// Peer is a host as an export sees it.
type Peer struct {
	Initiator string // its iSCSI name
	Initiates Secret // by which it proves to be that host
	Answers   Secret // by which the array proves to be the array
}

// LUN is how a LUN is to be exported.
type LUN struct {
	NAA  lun.NAA
	File string // absolute path: a file, or a block device
	Size uint64 // bytes
	Maps []Mapping
}

// Mapping is one initiator's view of a LUN.
type Mapping struct {
	Initiator string
	Number    uint16 // LUN number, the initiator's own count
	ReadOnly  bool
}
