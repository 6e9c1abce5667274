package lun

import (
	"encoding/binary"
	"fmt"

	"github.com/umbra-vss/umbra/vss"
)

const (
	pageSerialNumber   = 0x80
	pageIdentification = 0x83
	pageHeader         = 4
	designatorHeader   = 4

	// MaxIdentifier is the longest identifier a designator can hold, in bytes.
	MaxIdentifier = 255
)

// ParsePage83 reads a SCSI Device Identification page (VPD 0x83), as INQUIRY
// returns it or as sysfs shows it in vpd_pg83, and returns the designators
// that name the logical unit itself (association 0). Those of ports, targets
// and reserved associations are left out, and so are empty ones.
//
// Types and code sets that this package has no name for are carried. Lengths
// are strict: a page or a designator that runs past its end gives E_INVALIDARG
// and nothing else, because half an identifier may be another LUN's whole one.
// Bytes after the page's own length (the rest of an allocation buffer) are not
// looked at.
func ParsePage83(b []byte) ([]StorageID, error) {
	page, err := pageBody(b, pageIdentification)
	if err != nil {
		return nil, err
	}
	var ids []StorageID
	for n := 1; len(page) > 0; n++ {
		if len(page) < designatorHeader {
			return nil, badPage(pageIdentification, fmt.Sprintf("designator %d has %d bytes of header, 4 are needed", n, len(page)))
		}
		length := int(page[3])
		if len(page) < designatorHeader+length {
			return nil, badPage(pageIdentification, fmt.Sprintf("designator %d claims %d bytes, the page has %d left", n, length, len(page)-designatorHeader))
		}
		association := page[1] >> 4 & 0x3
		if association == 0 && length > 0 {
			ids = append(ids, StorageID{
				CodeSet:    CodeSet(page[0] & 0xf),
				Type:       IDType(page[1] & 0xf),
				Identifier: append([]byte(nil), page[designatorHeader:designatorHeader+length]...),
			})
		}
		page = page[designatorHeader+length:]
	}
	return ids, nil
}

// EncodePage83 writes identifiers as the page a direct-access device would
// return; ParsePage83 reads the same list back. Identifiers that no page can
// hold (empty, longer than MaxIdentifier, type or code set above 15, or more
// than 65535 bytes in all) give E_INVALIDARG.
func EncodePage83(ids []StorageID) ([]byte, error) {
	b := []byte{0, pageIdentification, 0, 0}
	for i, s := range ids {
		switch {
		case len(s.Identifier) == 0 || len(s.Identifier) > MaxIdentifier:
			return nil, unencodable(fmt.Sprintf("identifier %d has %d bytes, 1 to 255 fit", i+1, len(s.Identifier)))
		case s.CodeSet > 0xf || s.Type > 0xf:
			return nil, unencodable(fmt.Sprintf("identifier %d has code set %d and type %d, 15 is the highest", i+1, s.CodeSet, s.Type))
		}
		b = append(b, byte(s.CodeSet), byte(s.Type), 0, byte(len(s.Identifier)))
		b = append(b, s.Identifier...)
	}
	if len(b)-pageHeader > 0xffff {
		return nil, unencodable("the identifiers need more than 65535 bytes")
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-pageHeader))
	return b, nil
}

// ParsePage80 reads a Unit Serial Number page (VPD 0x80) and returns the serial
// number without its padding, "" for a device that has none. A page that is cut
// short gives E_INVALIDARG.
func ParsePage80(b []byte) (string, error) {
	page, err := pageBody(b, pageSerialNumber)
	if err != nil {
		return "", err
	}
	return unpad(string(page)), nil
}

// pageBody checks the header that all vital product data pages share and
// returns what follows it.
func pageBody(b []byte, page byte) ([]byte, error) {
	if len(b) < pageHeader {
		return nil, badPage(page, fmt.Sprintf("it has %d bytes, a header alone has 4", len(b)))
	}
	if b[0]>>5 == 0x3 {
		return nil, badPage(page, "the target has no logical unit at this number")
	}
	if b[1] != page {
		return nil, badPage(page, fmt.Sprintf("it calls itself page 0x%02x", b[1]))
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if len(b) < pageHeader+n {
		return nil, badPage(page, fmt.Sprintf("it claims %d bytes, %d arrived", n, len(b)-pageHeader))
	}
	return b[pageHeader : pageHeader+n], nil
}

func badPage(page byte, reason string) error {
	return &vss.Error{Code: vss.E_INVALIDARG, Op: "read SCSI identity", Object: fmt.Sprintf("VPD page 0x%02x", page),
		Reason: reason, Remedy: "Compare the page with what sg_vpd shows, and report the device's firmware to its maker if it is malformed"}
}

func unencodable(reason string) error {
	return &vss.Error{Code: vss.E_INVALIDARG, Op: "write SCSI identity", Object: "VPD page 0x83",
		Reason: reason, Remedy: "Give the LUN identifiers that a page 0x83 designator can hold"}
}
