package document

import (
	"encoding/json"

	"github.com/umbra-vss/umbra/lun"
)

// JSON is not how documents travel, but services keep sets in their catalogues
// in it, and programs print components. JSON strings are Unicode and encoding/json replaces what is not,
// silently; a set that lost a byte of a name would no longer have the digest
// that its ticket signs. So text is escaped in JSON as it is in XML, and sets
// come back with every byte.

type (
	plainSet        SnapshotSet
	plainSnapshot   Snapshot
	plainFilesystem Filesystem
	plainMapping    LUNMapping
	plainComponent  Component
)

// MarshalJSON writes the set so that UnmarshalJSON gives an equal one.
func (s SnapshotSet) MarshalJSON() ([]byte, error) {
	s.OriginatingMachine, s.ServiceMachine = escape(s.OriginatingMachine), escape(s.ServiceMachine)
	return json.Marshal(plainSet(s))
}

// UnmarshalJSON reads what MarshalJSON wrote. It is for trusted storage: it
// does not validate.
func (s *SnapshotSet) UnmarshalJSON(b []byte) error {
	var p plainSet
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	if err := unescapeAll(&p.OriginatingMachine, &p.ServiceMachine); err != nil {
		return err
	}
	*s = SnapshotSet(p)
	return nil
}

// MarshalJSON writes the description so that UnmarshalJSON gives an equal one.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	s.OriginalVolumeName = escape(s.OriginalVolumeName)
	return json.Marshal(plainSnapshot(s))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Snapshot) UnmarshalJSON(b []byte) error {
	var p plainSnapshot
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	if err := unescapeAll(&p.OriginalVolumeName); err != nil {
		return err
	}
	*s = Snapshot(p)
	return nil
}

// MarshalJSON writes the description so that UnmarshalJSON gives an equal one.
func (f Filesystem) MarshalJSON() ([]byte, error) {
	f.Type, f.UUID, f.Label = escape(f.Type), escape(f.UUID), escape(f.Label)
	uuids := make([]string, len(f.DeviceUUIDs))
	for i, u := range f.DeviceUUIDs {
		uuids[i] = escape(u)
	}
	f.DeviceUUIDs = uuids
	return json.Marshal(plainFilesystem(f))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Filesystem) UnmarshalJSON(b []byte) error {
	var p plainFilesystem
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	text := []*string{&p.Type, &p.UUID, &p.Label}
	for i := range p.DeviceUUIDs {
		text = append(text, &p.DeviceUUIDs[i])
	}
	if err := unescapeAll(text...); err != nil {
		return err
	}
	*f = Filesystem(p)
	return nil
}

// MarshalJSON writes the mapping so that UnmarshalJSON gives an equal one.
func (m LUNMapping) MarshalJSON() ([]byte, error) {
	for _, s := range append(infoText(&m.Source), infoText(&m.Target)...) {
		*s = escape(*s)
	}
	return json.Marshal(plainMapping(m))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (m *LUNMapping) UnmarshalJSON(b []byte) error {
	var p plainMapping
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	if err := unescapeAll(append(infoText(&p.Source), infoText(&p.Target)...)...); err != nil {
		return err
	}
	*m = LUNMapping(p)
	return nil
}

// MarshalJSON writes the component so that UnmarshalJSON gives an equal one.
func (c Component) MarshalJSON() ([]byte, error) {
	c = c.detached()
	for _, t := range c.texts() {
		*t.s = escape(*t.s)
	}
	return json.Marshal(plainComponent(c))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Component) UnmarshalJSON(b []byte) error {
	var p plainComponent
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	for _, t := range (*Component)(&p).texts() {
		if err := unescapeAll(t.s); err != nil {
			return err
		}
	}
	*c = Component(p)
	return nil
}

func infoText(i *lun.Info) []*string {
	return []*string{&i.VendorID, &i.ProductID, &i.ProductRevision, &i.SerialNumber}
}

func unescapeAll(text ...*string) error {
	for _, s := range text {
		t, err := unescape(*s)
		if err != nil {
			return err
		}
		*s = t
	}
	return nil
}
