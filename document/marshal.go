package document

import (
	"bytes"
	"encoding/xml"
	"fmt"

	"github.com/umbra-vss/umbra/lun"
)

// Marshal writes the document as indented XML in Namespace, in the lowest
// version of the schema that has room for it.
// Unmarshal gives an equal document back, and equal documents give equal
// bytes.
//
// Names are bytes on Linux, and all of them survive: what XML cannot hold is
// written as \xHH, a backslash as \\. An invalid document gives
// VSS_E_INVALID_XML_DOCUMENT, as from Validate, and nothing is written.
func Marshal(d *Document) ([]byte, error) {
	if f := d.check(); f != nil {
		return nil, f.err("write document")
	}
	var w writer
	w.b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	w.element("backupComponents", []string{
		"xmlns", Namespace,
		"schemaVersion", d.schema(),
		"context", writeBits(uint32(d.Context)),
	}, func() {
		w.element("backupState", []string{
			"selectComponents", writeBool(d.State.SelectComponents),
			"bootable", writeBool(d.State.Bootable),
			"type", writeBackupType(d.State.Type),
			"partialFiles", writeBool(d.State.PartialFiles),
		}, nil)
		w.writers(d)
		if d.Set != nil {
			w.set(d.Set)
		}
	})
	if w.b.Len() > MaxSize {
		return nil, faultAt("", "the document has %d bytes, %d is the limit", w.b.Len(), MaxSize).
			withRemedy("Put fewer volumes in one set, or defragment those with very many extents").err("write document")
	}
	return w.b.Bytes(), nil
}

type writer struct {
	b     bytes.Buffer
	depth int
}

// element writes an element with attributes given as name, value, name, …
func (w *writer) element(name string, attrs []string, body func()) {
	w.open(name, attrs)
	if body == nil {
		w.b.WriteString("/>\n")
		return
	}
	w.b.WriteString(">\n")
	w.depth++
	body()
	w.depth--
	w.indent()
	fmt.Fprintf(&w.b, "</%s>\n", name)
}

func (w *writer) open(name string, attrs []string) {
	w.indent()
	w.b.WriteString("<" + name)
	for i := 0; i < len(attrs); i += 2 {
		w.b.WriteString(" " + attrs[i] + `="`)
		_ = xml.EscapeText(&w.b, []byte(attrs[i+1])) // a buffer never fails
		w.b.WriteString(`"`)
	}
}

func (w *writer) indent() {
	for range w.depth {
		w.b.WriteString("  ")
	}
}

func (w *writer) set(s *SnapshotSet) {
	digest := s.Digest()
	w.element("snapshotSet", []string{
		"id", s.ID.String(),
		"attributes", writeBits(uint32(s.Attributes)),
		"count", fmt.Sprint(s.Count),
		"creationTimestamp", writeTime(s.CreationTimestamp),
		"originatingMachine", escape(s.OriginatingMachine),
		"serviceMachine", escape(s.ServiceMachine),
		"digest", writeHex(digest[:]),
	}, func() {
		for i := range s.Snapshots {
			w.snapshot(&s.Snapshots[i])
		}
		for _, t := range s.Tickets {
			w.open("ticket", []string{"providerId", t.ProviderID.String()})
			w.b.WriteString(">" + writeBase64(t.Data) + "</ticket>\n")
		}
	})
}

func (w *writer) snapshot(s *Snapshot) {
	w.element("snapshot", []string{
		"id", s.ID.String(),
		"providerId", s.ProviderID.String(),
		"originalVolumeName", escape(s.OriginalVolumeName),
		"attributes", writeBits(uint32(s.Attributes)),
		"creationTimestamp", writeTime(s.CreationTimestamp),
		"quiesced", writeBool(s.Quiesced),
	}, func() {
		var devices func()
		if len(s.Filesystem.DeviceUUIDs) > 0 {
			devices = func() {
				for _, u := range s.Filesystem.DeviceUUIDs {
					w.element("device", []string{"uuid", escape(u)}, nil)
				}
			}
		}
		w.element("filesystem", []string{
			"type", escape(s.Filesystem.Type),
			"uuid", escape(s.Filesystem.UUID),
			"label", escape(s.Filesystem.Label),
			"size", writeNumber(s.Filesystem.Size),
			"deviceCount", fmt.Sprint(s.Filesystem.DeviceCount),
		}, devices)
		for i := range s.LUNs {
			w.mapping(&s.LUNs[i])
		}
		for _, d := range s.Devices {
			w.device(d)
		}
	})
}

func (w *writer) device(d BlockDevice) {
	w.element("blockDevice", []string{"role", d.Role}, func() {
		if l := d.Logical; l != nil {
			var disks func()
			if len(l.Disks) > 0 {
				disks = func() {
					for _, p := range l.Disks {
						w.element("physicalVolume", []string{"uuid", escape(p.UUID), "lun", fmt.Sprint(p.LUN), "offset", writeNumber(p.Offset)}, nil)
					}
				}
			}
			w.element("logicalVolume", []string{"group", escape(l.Group), "groupUuid", escape(l.GroupUUID), "name", escape(l.Name), "uuid", escape(l.UUID)}, disks)
		}
		for _, g := range d.Segments {
			w.element("segment", []string{"chunk", writeNumber(g.Chunk)}, func() {
				for _, x := range g.Extents {
					w.element("part", []string{"lun", fmt.Sprint(x.LUN), "offset", writeNumber(x.Offset), "length", writeNumber(x.Length)}, nil)
				}
			})
		}
	})
}

func (w *writer) mapping(m *LUNMapping) {
	w.element("lunMapping", []string{
		"size", writeNumber(m.Size),
		"generation", writeNumber(m.Generation),
	}, func() {
		w.lun("source", &m.Source)
		w.lun("target", &m.Target)
		for _, x := range m.Extents {
			w.element("extent", []string{"offset", writeNumber(x.Offset), "length", writeNumber(x.Length)}, nil)
		}
	})
}

func (w *writer) lun(name string, i *lun.Info) {
	var body func()
	if len(i.StorageIDs)+len(i.Interconnects) > 0 {
		body = func() {
			for _, s := range i.StorageIDs {
				w.element("identifier", []string{
					"codeSet", fmt.Sprint(s.CodeSet),
					"type", fmt.Sprint(s.Type),
					"value", writeHex(s.Identifier),
				}, nil)
			}
			for _, c := range i.Interconnects {
				w.element("interconnect", []string{
					"addressType", fmt.Sprint(c.AddressType),
					"port", writeHex(c.Port),
					"address", writeHex(c.Address),
				}, nil)
			}
		}
	}
	w.element(name, []string{
		"version", fmt.Sprint(i.Version),
		"deviceType", fmt.Sprint(i.DeviceType),
		"deviceTypeModifier", fmt.Sprint(i.DeviceTypeModifier),
		"commandQueueing", writeBool(i.CommandQueueing),
		"busType", fmt.Sprint(uint8(i.BusType)),
		"vendorId", escape(i.VendorID),
		"productId", escape(i.ProductID),
		"productRevision", escape(i.ProductRevision),
		"serialNumber", escape(i.SerialNumber),
		"diskSignature", i.DiskSignature.String(),
	}, body)
}
