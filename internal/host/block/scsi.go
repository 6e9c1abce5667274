package block

import (
	"path/filepath"
	"strings"

	"github.com/umbra-vss/umbra/lun"
)

// scsiInfo reads the INQUIRY data and the vital product data pages that the
// kernel keeps of a SCSI disk. dir is the disk's folder in sysfs. It reports
// false for a device that is not SCSI.
func scsiInfo(dir string) (lun.Info, bool) {
	dev := filepath.Join(dir, "device")
	if !exists(dev, "scsi_level") {
		return lun.Info{}, false
	}
	info := lun.Info{
		Version:         lun.InfoVersion,
		DeviceType:      uint8(number(dev, "type")),
		CommandQueueing: number(dev, "queue_depth") > 1,
		BusType:         lun.BusSCSI,
		VendorID:        attr(dev, "vendor"),
		ProductID:       attr(dev, "model"),
		ProductRevision: attr(dev, "rev"),
	}
	if strings.Contains(dir, "/session") {
		info.BusType = lun.BusISCSI
	} else if real, err := filepath.EvalSymlinks(dev); err == nil && strings.Contains(real, "/session") {
		info.BusType = lun.BusISCSI // dir is a link
	}
	// A page that cannot be read leaves the disk without an identity: it is
	// then refused as a LUN by name, not guessed at.
	if serial, err := lun.ParsePage80(page(dev, "vpd_pg80")); err == nil {
		info.SerialNumber = serial
	}
	if ids, err := lun.ParsePage83(page(dev, "vpd_pg83")); err == nil {
		info.StorageIDs = ids
	}
	return info, true
}
