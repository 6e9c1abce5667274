package lun

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// InfoVersion is VER_VDS_LUN_INFORMATION.
const InfoVersion = 1

// Info is VDS_LUN_INFORMATION. Strings are "" where the header has NULL.
type Info struct {
	Version            uint32         `json:"version"`
	DeviceType         uint8          `json:"device_type"`          // SCSI peripheral device type; 0 is a disk
	DeviceTypeModifier uint8          `json:"device_type_modifier"` // 0 if none
	CommandQueueing    bool           `json:"command_queueing"`
	BusType            BusType        `json:"bus_type"` // says how this host sees it; never compared
	VendorID           string         `json:"vendor_id"`
	ProductID          string         `json:"product_id"`
	ProductRevision    string         `json:"product_revision"` // changes with firmware; never compared
	SerialNumber       string         `json:"serial_number"`    // VPD page 0x80
	DiskSignature      vss.ID         `json:"disk_signature"`   // never compared; providers give GUID_NULL
	StorageIDs         []StorageID    `json:"storage_ids"`      // VPD page 0x83, association 0 only
	Interconnects      []Interconnect `json:"interconnects,omitempty"`
}

// StorageID is VDS_STORAGE_IDENTIFIER: one designator of page 0x83 with
// association 0 (the logical unit itself).
type StorageID struct {
	CodeSet    CodeSet `json:"code_set"`
	Type       IDType  `json:"type"`
	Identifier []byte  `json:"identifier"` // base64 in JSON
}

// Interconnect is VDS_INTERCONNECT: one path to the LUN, different on every host.
type Interconnect struct {
	AddressType InterconnectAddressType `json:"address_type"`
	Port        []byte                  `json:"port"`
	Address     []byte                  `json:"address"`
}

// Extent is a run of bytes of a volume on one of its LUNs.
type Extent struct {
	LUN    int    `json:"lun"`    // index into the volume's list of LUNs
	Offset uint64 `json:"offset"` // bytes from the start of the LUN
	Length uint64 `json:"length"` // bytes
}

// Segment is a run of a block device that lies on LUNs: on one extent, or in
// turns of Chunk bytes on several of equal length (striped).
type Segment struct {
	Chunk   uint64   `json:"chunk,omitempty"` // 0: not striped, and one extent
	Extents []Extent `json:"extents"`
}

// Length is how many bytes of the device the segment is.
func (s Segment) Length() uint64 {
	var n uint64
	for _, e := range s.Extents {
		n += e.Length
	}
	return n
}

// CodeSet is VDS_STORAGE_IDENTIFIER_CODE_SET. Unknown values are carried.
type CodeSet uint8

// Code sets.
const (
	CodeSetReserved CodeSet = 0
	CodeSetBinary   CodeSet = 1
	CodeSetASCII    CodeSet = 2
	CodeSetUTF8     CodeSet = 3
)

// IDType is VDS_STORAGE_IDENTIFIER_TYPE. Unknown values are carried.
type IDType uint8

// Identifier types. Those that can identify a LUN by themselves are 1, 2, 3
// and 8 (provider.md 6.1).
const (
	IDVendorSpecific   IDType = 0
	IDVendorID         IDType = 1 // T10
	IDEUI64            IDType = 2
	IDFCPHName         IDType = 3 // NAA
	IDPortRelative     IDType = 4
	IDTargetPortGroup  IDType = 5
	IDLogicalUnitGroup IDType = 6
	IDMD5LogicalUnit   IDType = 7
	IDSCSINameString   IDType = 8
)

// BusType is VDS_STORAGE_BUS_TYPE.
type BusType uint8

// Bus types.
const (
	BusUnknown           BusType = 0x00
	BusSCSI              BusType = 0x01
	BusATAPI             BusType = 0x02
	BusATA               BusType = 0x03
	Bus1394              BusType = 0x04
	BusSSA               BusType = 0x05
	BusFibre             BusType = 0x06
	BusUSB               BusType = 0x07
	BusRAID              BusType = 0x08
	BusISCSI             BusType = 0x09
	BusSAS               BusType = 0x0A
	BusSATA              BusType = 0x0B
	BusSD                BusType = 0x0C
	BusMMC               BusType = 0x0D
	BusVirtual           BusType = 0x0E
	BusFileBackedVirtual BusType = 0x0F
	BusSpaces            BusType = 0x10
	BusNVMe              BusType = 0x11
	BusSCM               BusType = 0x12
	BusUFS               BusType = 0x13
	BusMaxReserved       BusType = 0x7F
)

// InterconnectAddressType is VDS_INTERCONNECT_ADDRESS_TYPE.
type InterconnectAddressType uint8

// Interconnect address types.
const (
	AddressUnknown InterconnectAddressType = 0
	AddressFCFS    InterconnectAddressType = 1
	AddressFCPH    InterconnectAddressType = 2
	AddressFCPH3   InterconnectAddressType = 3
	AddressMAC     InterconnectAddressType = 4
	AddressSCSI    InterconnectAddressType = 5
)

// Qualifies reports whether this identifier can identify a LUN by itself:
// type 1, 2, 3 or 8 and not empty.
func (s StorageID) Qualifies() bool {
	switch s.Type {
	case IDVendorID, IDEUI64, IDFCPHName, IDSCSINameString:
		return len(s.Identifier) > 0
	}
	return false
}

// String writes the identifier the way udev and multipath do: "naa.6001…",
// "eui.…", "t10.…", or the SCSI name string itself.
func (s StorageID) String() string {
	switch s.Type {
	case IDFCPHName:
		return "naa." + hex.EncodeToString(s.Identifier)
	case IDEUI64:
		return "eui." + hex.EncodeToString(s.Identifier)
	case IDVendorID:
		return "t10." + strings.TrimRight(string(s.Identifier), " \x00")
	case IDSCSINameString:
		return strings.TrimRight(string(s.Identifier), "\x00")
	}
	return fmt.Sprintf("type%d.%s", s.Type, hex.EncodeToString(s.Identifier))
}

// Name is the LUN's first qualifying identifier as text, NAA preferred, the
// name by which people and messages call it. It is "(no page 0x83
// identifier)" for a LUN that has none.
func (i Info) Name() string {
	var name string
	for _, s := range i.StorageIDs {
		if !s.Qualifies() {
			continue
		}
		if s.Type == IDFCPHName {
			return s.String()
		}
		if name == "" {
			name = s.String()
		}
	}
	if name == "" {
		return "(no page 0x83 identifier)"
	}
	return name
}
