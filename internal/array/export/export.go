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

// Kind names a transport, in records, bundles and on the wire.
type Kind string

// The transports there are.
const (
	ISCSI Kind = "iscsi"
	NVMe  Kind = "nvme"
	NBD   Kind = "nbd"
)

// Label is how people write it.
func (k Kind) Label() string {
	switch k {
	case ISCSI:
		return "iSCSI"
	case NVMe:
		return "NVMe over TCP"
	case NBD:
		return "NBD"
	}
	return string(k)
}

// Secret is a name and what proves it: user and password of CHAP, a key and
// whose it is.
type Secret struct{ User, Password string }

// Peer is a host as one export sees it. Each transport has names and secrets of
// its own: what opens one opens no other.
type Peer struct {
	Initiator string // its name there: iSCSI name, NQN, identity of a key
	Initiates Secret // by which it proves to be that host
	Answers   Secret // by which the array proves to be the array; empty where one secret does both
	Lane      uint16 // the host's own number, from 1, no other host's: for a transport that has a port for each
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
