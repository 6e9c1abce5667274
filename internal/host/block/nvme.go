package block

import (
	"encoding/hex"
	"path/filepath"
	"strings"

	"github.com/umbra-vss/umbra/internal/array/identity"
	"github.com/umbra-vss/umbra/lun"
)

// nvmeInfo reads what the kernel keeps of an NVMe namespace and says it in
// SCSI's words: EUI-64 is identifier type 2, NGUID and UUID are SCSI name
// strings, type 8 (provider.md 6.1). A namespace of an Umbra array is its LUN,
// with the NAA name and the INQUIRY strings that the LUN has on every other
// transport: else a copy could not be imported by another way than the one it
// was made by. dir is the namespace's folder in sysfs.
func nvmeInfo(dir string) (lun.Info, bool) {
	wwid := attr(dir, "wwid")
	if wwid == "" || !exists(dir, "nsid") {
		return lun.Info{}, false
	}
	dev := filepath.Join(dir, "device")
	nguid, uuid := hexDigits(attr(dir, "nguid"), 16), hexDigits(attr(dir, "uuid"), 16)
	if n, ok := identity.OfNamespace(sixteen(nguid), sixteen(uuid)); ok && strings.HasPrefix(attr(dev, "model"), identity.Vendor) {
		info := identity.Info(n)
		info.BusType = lun.BusNVMe
		return info, true
	}
	info := lun.Info{
		Version:         lun.InfoVersion,
		CommandQueueing: true,
		BusType:         lun.BusNVMe,
		VendorID:        "NVMe",
		ProductID:       attr(dev, "model"),
		ProductRevision: attr(dev, "firmware_rev"),
		SerialNumber:    attr(dev, "serial"),
	}
	if b := hexDigits(attr(dir, "eui"), 8); b != nil {
		info.StorageIDs = append(info.StorageIDs, lun.StorageID{CodeSet: lun.CodeSetBinary, Type: lun.IDEUI64, Identifier: b})
	}
	if nguid != nil {
		info.StorageIDs = append(info.StorageIDs, nameString("eui."+hex.EncodeToString(nguid)))
	}
	if uuid != nil {
		info.StorageIDs = append(info.StorageIDs, nameString("uuid."+strings.ToLower(attr(dir, "uuid"))))
	}
	return info, true
}

func sixteen(b []byte) (out [16]byte) {
	copy(out[:], b)
	return out
}

func nameString(s string) lun.StorageID {
	return lun.StorageID{CodeSet: lun.CodeSetUTF8, Type: lun.IDSCSINameString, Identifier: []byte(s)}
}

// hexDigits reads n bytes written as hexadecimal with any of the separators
// the kernel uses. All zero means that the namespace has no such identifier.
func hexDigits(s string, n int) []byte {
	b, err := hex.DecodeString(strings.NewReplacer("-", "", " ", "", ":", "").Replace(s))
	if err != nil || len(b) != n || strings.Trim(string(b), "\x00") == "" {
		return nil
	}
	return b
}
