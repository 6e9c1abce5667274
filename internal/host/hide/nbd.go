package hide

import "fmt"

// NBDIndex is the first number of the thousand devices of the kernel's NBD client
// that are Umbra's; NBDCount is how many they are.
const (
	NBDIndex = 2000
	NBDCount = 1000
)

const nbdFile = "10-umbra-nbd.rules"

// renderNBD hides devices of the kernel's NBD client that do not say yet which
// LUN they are. The kernel tells udev of such a device before it tells its
// backend identifier, by which the other rules go; whoever attaches it asks for
// one more event afterwards.
func renderNBD() string {
	return rulesFile("Written by Umbra: a device of the kernel's NBD client whose LUN is not known yet\n# stays out of sight.",
		[]string{fmt.Sprintf(`KERNEL=="nbd%d[0-9][0-9][0-9]*", `, NBDIndex/1000) + effects}, `KERNEL!="nbd*"`, `ATTRS{backend}=="umbra/*"`)
}
