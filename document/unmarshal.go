package document

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/lun"
	"github.com/umbra-vss/umbra/vss"
)

// Unmarshal reads what Marshal wrote. It is safe on any input: every document
// that it cannot take as a whole, byte for byte as meant, gives
// VSS_E_INVALID_XML_DOCUMENT with line and column, the reason and a remedy.
//
// White space between elements, comments, attribute order, quoting and
// namespace prefixes are free; every value has one spelling only.
func Unmarshal(b []byte) (*Document, error) {
	d, f := unmarshal(b)
	if f != nil {
		return nil, f.err("read document")
	}
	return d, nil
}

func unmarshal(b []byte) (*Document, *fault) {
	if len(b) > MaxSize {
		return nil, faultAt("", "the document has %d bytes, %d is the limit", len(b), MaxSize)
	}
	r := &xmlReader{d: xml.NewDecoder(bytes.NewReader(b)), ns: Namespace, first: true}
	d, f := r.document()
	if f != nil {
		return nil, f
	}
	f = d.check()
	if f == nil && d.Set != nil && d.Set.Digest() != r.digest {
		f = faultAt("snapshotSet", "the description of the set was changed after it was written: its digest does not fit")
	}
	if f != nil {
		f.line, f.col = locate(b, f.path)
		return nil, f
	}
	return d, nil
}

func (r *xmlReader) document() (*Document, *fault) {
	a, f := r.root("backupComponents", "Give the document that was saved when the set was created, not another XML file")
	if f != nil {
		return nil, f
	}
	d := new(Document)
	// The version comes before the rest, which it may have changed.
	d.SchemaVersion = take(a, "schemaVersion", anyText)
	if a.bad == nil && !knownSchema(d.SchemaVersion) {
		return nil, r.fault("schema version %q is not %s, %s or %s", d.SchemaVersion, firstSchema, componentsSchema, CurrentSchema).withRemedy(remedyUpdate)
	}
	r.schema = d.SchemaVersion
	d.Context = vss.Context(a.bits("context"))
	if f := a.done(); f != nil {
		return nil, f
	}
	kids := []child{
		{"backupState", 1, 1, func(a *attributes) *fault { return r.state(a, &d.State) }},
		{"restoreState", 0, 1, func(a *attributes) *fault { return r.restoreState(a, d) }},
		{"writerComponents", 0, MaxWriters, func(a *attributes) *fault {
			d.Components = append(d.Components, WriterComponents{})
			return r.writer(a, &d.Components[len(d.Components)-1])
		}},
		{"snapshotSet", 0, 1, func(a *attributes) *fault {
			d.Set = new(SnapshotSet)
			return r.set(a, d.Set)
		}},
	}
	if d.SchemaVersion == firstSchema {
		kids = slices.Delete(kids, 1, 3)
	}
	if f := r.body(kids...); f != nil {
		return nil, f
	}
	if f := r.end(); f != nil {
		return nil, f
	}
	return d, nil
}

func knownSchema(v string) bool {
	return v == firstSchema || v == componentsSchema || v == CurrentSchema
}

func anyText(s string) (string, error) { return s, nil }

func (r *xmlReader) state(a *attributes, s *BackupState) *fault {
	s.SelectComponents = a.flag("selectComponents")
	s.Bootable = a.flag("bootable")
	s.Type = take(a, "type", readBackupType)
	s.PartialFiles = a.flag("partialFiles")
	if f := a.done(); f != nil {
		return f
	}
	return r.body()
}

func (r *xmlReader) set(a *attributes, s *SnapshotSet) *fault {
	s.ID = a.id("id")
	s.Attributes = vss.Attributes(a.bits("attributes"))
	s.Count = int(a.number("count", MaxSnapshots))
	s.CreationTimestamp = a.time("creationTimestamp")
	s.OriginatingMachine = a.text("originatingMachine")
	s.ServiceMachine = a.text("serviceMachine")
	r.digest = take(a, "digest", readDigest)
	if f := a.done(); f != nil {
		return f
	}
	return r.body(
		child{"snapshot", 1, MaxSnapshots, func(a *attributes) *fault {
			s.Snapshots = append(s.Snapshots, Snapshot{})
			return r.snapshot(a, &s.Snapshots[len(s.Snapshots)-1])
		}},
		child{"ticket", 0, MaxSnapshots, func(a *attributes) *fault {
			t := Ticket{ProviderID: a.id("providerId")}
			if f := a.done(); f != nil {
				return f
			}
			text, f := r.text()
			if f != nil {
				return f
			}
			var err error
			if t.Data, err = readBase64(text); err != nil {
				return r.fault("the ticket is %v", err)
			}
			s.Tickets = append(s.Tickets, t)
			return nil
		}},
	)
}

func readDigest(s string) (d [32]byte, err error) {
	b, err := readHex(s)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("not 64 lower-case hexadecimal digits")
	}
	return [32]byte(b), nil
}

func (r *xmlReader) snapshot(a *attributes, s *Snapshot) *fault {
	s.ID = a.id("id")
	s.ProviderID = a.id("providerId")
	s.OriginalVolumeName = a.text("originalVolumeName")
	s.Attributes = vss.Attributes(a.bits("attributes"))
	s.CreationTimestamp = a.time("creationTimestamp")
	s.Quiesced = a.flag("quiesced")
	if f := a.done(); f != nil {
		return f
	}
	kids := []child{
		{"filesystem", 1, 1, func(a *attributes) *fault { return r.filesystem(a, &s.Filesystem) }},
		{"lunMapping", 0, maxLUNs, func(a *attributes) *fault {
			s.LUNs = append(s.LUNs, LUNMapping{})
			return r.mapping(a, &s.LUNs[len(s.LUNs)-1], len(s.LUNs)-1)
		}},
	}
	if r.schema == CurrentSchema {
		kids = append(kids, child{"blockDevice", 0, maxDevices, func(a *attributes) *fault {
			s.Devices = append(s.Devices, BlockDevice{})
			return r.device(a, &s.Devices[len(s.Devices)-1])
		}})
	}
	return r.body(kids...)
}

func (r *xmlReader) device(a *attributes, d *BlockDevice) *fault {
	d.Role = a.text("role")
	if f := a.done(); f != nil {
		return f
	}
	return r.body(child{"logicalVolume", 0, 1, func(a *attributes) *fault {
		d.Logical = &LogicalVolume{}
		return r.logical(a, d.Logical)
	}}, child{"segment", 1, maxExtents, func(a *attributes) *fault {
		d.Segments = append(d.Segments, lun.Segment{Chunk: a.size("chunk")})
		if f := a.done(); f != nil {
			return f
		}
		return r.segment(&d.Segments[len(d.Segments)-1])
	}})
}

func (r *xmlReader) logical(a *attributes, l *LogicalVolume) *fault {
	l.Group, l.GroupUUID, l.Name, l.UUID = a.text("group"), a.text("groupUuid"), a.text("name"), a.text("uuid")
	if f := a.done(); f != nil {
		return f
	}
	return r.body(child{"physicalVolume", 0, maxDevices, func(a *attributes) *fault {
		l.Disks = append(l.Disks, PhysicalVolume{UUID: a.text("uuid"), LUN: int(a.number("lun", maxLUNs-1)), Offset: a.size("offset")})
		if f := a.done(); f != nil {
			return f
		}
		return r.body()
	}})
}

func (r *xmlReader) segment(g *lun.Segment) *fault {
	return r.body(child{"part", 1, maxLUNs, func(a *attributes) *fault {
		g.Extents = append(g.Extents, lun.Extent{LUN: int(a.number("lun", maxLUNs-1)), Offset: a.size("offset"), Length: a.size("length")})
		if f := a.done(); f != nil {
			return f
		}
		return r.body()
	}})
}

func (r *xmlReader) filesystem(a *attributes, fs *Filesystem) *fault {
	fs.Type = a.text("type")
	fs.UUID = a.text("uuid")
	fs.Label = a.text("label")
	fs.Size = a.size("size")
	fs.DeviceCount = int(a.number("deviceCount", maxDevices))
	if f := a.done(); f != nil {
		return f
	}
	return r.body(child{"device", 0, maxDevices, func(a *attributes) *fault {
		fs.DeviceUUIDs = append(fs.DeviceUUIDs, a.text("uuid"))
		if f := a.done(); f != nil {
			return f
		}
		return r.body()
	}})
}

func (r *xmlReader) mapping(a *attributes, m *LUNMapping, index int) *fault {
	m.Size = a.size("size")
	m.Generation = a.size("generation")
	if f := a.done(); f != nil {
		return f
	}
	return r.body(
		child{"source", 1, 1, func(a *attributes) *fault { return r.lun(a, &m.Source) }},
		child{"target", 1, 1, func(a *attributes) *fault { return r.lun(a, &m.Target) }},
		child{"extent", 1, maxExtents, func(a *attributes) *fault {
			m.Extents = append(m.Extents, lun.Extent{LUN: index, Offset: a.size("offset"), Length: a.size("length")})
			if f := a.done(); f != nil {
				return f
			}
			return r.body()
		}},
	)
}

func (r *xmlReader) lun(a *attributes, i *lun.Info) *fault {
	i.Version = uint32(a.number("version", math.MaxUint32))
	i.DeviceType = a.octet("deviceType")
	i.DeviceTypeModifier = a.octet("deviceTypeModifier")
	i.CommandQueueing = a.flag("commandQueueing")
	i.BusType = lun.BusType(a.octet("busType"))
	i.VendorID = a.text("vendorId")
	i.ProductID = a.text("productId")
	i.ProductRevision = a.text("productRevision")
	i.SerialNumber = a.text("serialNumber")
	i.DiskSignature = a.id("diskSignature")
	if f := a.done(); f != nil {
		return f
	}
	return r.body(
		child{"identifier", 0, maxIdentifiers, func(a *attributes) *fault {
			i.StorageIDs = append(i.StorageIDs, lun.StorageID{
				CodeSet:    lun.CodeSet(a.octet("codeSet")),
				Type:       lun.IDType(a.octet("type")),
				Identifier: a.hex("value"),
			})
			if f := a.done(); f != nil {
				return f
			}
			return r.body()
		}},
		child{"interconnect", 0, maxInterconnects, func(a *attributes) *fault {
			i.Interconnects = append(i.Interconnects, lun.Interconnect{
				AddressType: lun.InterconnectAddressType(a.octet("addressType")),
				Port:        a.hex("port"),
				Address:     a.hex("address"),
			})
			if f := a.done(); f != nil {
				return f
			}
			return r.body()
		}},
	)
}

// repeats are the elements that may come more than once, of both schemas.
var repeats = map[string]bool{
	"snapshot": true, "ticket": true, "device": true, "lunMapping": true, "identifier": true, "interconnect": true, "extent": true,
	"blockDevice": true, "physicalVolume": true, "segment": true, "part": true,
	"writerComponents": true, "component": true, "subcomponent": true, "newTarget": true, "alternateLocationMapping": true,
	"partialFile": true, "differencedFiles": true, "directedTarget": true,
	"includeFile": true, "excludeFile": true, "excludeFromSnapshot": true, "file": true, "databaseFile": true,
	"databaseLogFile": true, "dependency": true, "volume": true,
}

// locate finds the start tag of the element that a path names, in a document
// that has been read; line and column of the document element if it is not
// there.
func locate(b []byte, path string) (line, col int) {
	d := xml.NewDecoder(bytes.NewReader(b))
	var names []string           // the path of the open elements
	counts := []map[string]int{} // per open element, its children so far
	for {
		l, c := d.InputPos()
		t, err := d.Token()
		if err != nil {
			return line, col
		}
		switch t := t.(type) {
		case xml.StartElement:
			if len(counts) == 0 { // the document element: paths start below it
				line, col = l, c
			} else {
				siblings := counts[len(counts)-1]
				siblings[t.Name.Local]++
				name := t.Name.Local
				if repeats[name] {
					name = step(name, siblings[name], true)
				}
				names = append(names, name)
			}
			counts = append(counts, map[string]int{})
			if strings.Join(names, "/") == path {
				return l, c
			}
		case xml.EndElement:
			counts = counts[:len(counts)-1]
			if len(names) > 0 {
				names = names[:len(names)-1]
			}
		}
	}
}
