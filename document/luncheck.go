package document

import (
	"crypto/sha256"
	"fmt"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// lunIdentity stands for one LUN of a set: two descriptions have the same
// identity when they differ at most in how a host reaches the LUN.
type lunIdentity [sha256.Size]byte

func identityOf(i lun.Info) lunIdentity {
	i.Interconnects, i.BusType, i.CommandQueueing = nil, lun.BusUnknown, false
	e := encoder{sha256.New()}
	e.info(i)
	return lunIdentity(e.h.Sum(nil))
}

// checkLUNs looks at the LUNs of a set beside each other. Volumes may share a
// LUN, which is then copied once; no copy may have its original's identity;
// and in a set that travels every LUN must have an identifier of its own
// (requester.md 3.2 P9), because nothing else tells the importer which is
// which.
func (s *SnapshotSet) checkLUNs(at string) *fault {
	type pair struct {
		source           lunIdentity
		size, generation uint64
	}
	copies := map[lunIdentity]pair{}
	owner := map[string]lunIdentity{} // identifier -> its LUN, zero when several have it
	sources := map[lunIdentity]bool{}
	claim := func(i lun.Info, id lunIdentity) {
		for _, q := range i.QualifyingIDs() {
			if have, ok := owner[key(q)]; ok && have != id {
				owner[key(q)] = lunIdentity{}
			} else {
				owner[key(q)] = id
			}
		}
	}
	for n := range s.Snapshots {
		within := map[lunIdentity]bool{}
		for k := range s.Snapshots[n].LUNs {
			m, at := &s.Snapshots[n].LUNs[k], fmt.Sprintf("%s/snapshot[%d]/lunMapping[%d]", at, n+1, k+1)
			source, target := identityOf(m.Source), identityOf(m.Target)
			if within[target] {
				return faultAt(at, "the copy LUN %s is listed twice for one volume", m.Target.Name())
			}
			within[target] = true
			p := pair{source, m.Size, m.Generation}
			if have, ok := copies[target]; ok && have != p {
				return faultAt(at, "the copy LUN %s has another original, size or generation elsewhere in the set", m.Target.Name())
			}
			copies[target] = p
			sources[source] = true
			claim(m.Source, source)
			claim(m.Target, target)
		}
	}
	for n := range s.Snapshots {
		for k := range s.Snapshots[n].LUNs {
			m, at := &s.Snapshots[n].LUNs[k], fmt.Sprintf("%s/snapshot[%d]/lunMapping[%d]", at, n+1, k+1)
			if sources[identityOf(m.Target)] {
				return faultAt(at+"/target", "the copy LUN %s is also an original", m.Target.Name())
			}
			if !s.Attributes.Has(vss.ATTR_TRANSPORTABLE) {
				continue
			}
			if !unique(m.Source, owner) {
				return faultAt(at+"/source", "the LUN has no identifier of its own")
			}
			if !unique(m.Target, owner) {
				return faultAt(at+"/target", "the LUN has no identifier of its own")
			}
		}
	}
	return nil
}

func unique(i lun.Info, owner map[string]lunIdentity) bool {
	id := identityOf(i)
	for _, q := range i.QualifyingIDs() {
		if owner[key(q)] == id {
			return true
		}
	}
	return false
}

func key(s lun.StorageID) string {
	return string([]byte{byte(s.Type), byte(s.CodeSet)}) + string(s.Identifier)
}
