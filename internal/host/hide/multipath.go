package hide

import (
	"fmt"
	"strings"
)

// multipathd takes no notice of udev's verdict that a disk is no path. It leaves
// a disk alone that has a serial number and none of the properties by which it
// knows disks of storage systems (its default is "(SCSI_IDENT_|ID_WWN)"). Those
// come from sg3-utils' rules, so they are taken away at the end.
const multipathFile = "99-umbra-multipath.rules"

func renderMultipath() string {
	names := []string{"ID_WWN", "ID_WWN_WITH_EXTENSION", "ID_WWN_VENDOR_EXTENSION", "SCSI_IDENT_SERIAL"}
	for _, of := range []string{"LUN", "PORT", "TARGET"} {
		for _, kind := range []string{"VENDOR", "T10", "ATA", "EUI64", "NAA_EXT", "NAA_LOCAL", "NAA_REG", "NAA_REGEXT", "RELATIVE", "TARGET_PORT_GROUP", "LOGICAL_UNIT_GROUP", "MD5", "NAME", "UUID"} {
			names = append(names, "SCSI_IDENT_"+of+"_"+kind)
		}
	}
	var b strings.Builder
	b.WriteString("# Written by Umbra: multipathd must leave hidden disks alone.\n")
	b.WriteString(`SUBSYSTEM!="block", GOTO="umbra_multipath_end"` + "\n" + `ENV{UMBRA_HIDDEN}!="1", GOTO="umbra_multipath_end"` + "\n")
	for _, n := range names {
		fmt.Fprintf(&b, "ENV{%s}=\"\"\n", n)
	}
	b.WriteString(`LABEL="umbra_multipath_end"` + "\n")
	return b.String()
}
