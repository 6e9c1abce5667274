package block

import (
	"bytes"
	"strconv"
)

// Event is one thing that happened to a block device.
type Event struct {
	// Again means that events were or may have been lost, or that this machine
	// cannot say what happened: enumerate again. The other fields are empty.
	Again bool

	Action  string // the kernel's word: "add", "change", "remove"
	Name    string // the kernel's name: "sda", "loop3"
	Type    string // "disk" or "partition"
	Major   uint32
	Minor   uint32
	DiskSeq uint64 // 0 if the kernel did not say
}

// parseUevent reads one kernel message: "ACTION@DEVPATH", then KEY=VALUE
// fields, all ended by NUL. It reports false for what is not an event of a
// block device.
func parseUevent(msg []byte) (Event, bool) {
	head, rest, ok := bytes.Cut(msg, []byte{0})
	// Messages that udev sends on start with a magic word instead.
	if !ok || !bytes.Contains(head, []byte("@")) {
		return Event{}, false
	}
	var e Event
	var subsystem string
	var haveMajor, haveMinor bool
	for _, field := range bytes.Split(rest, []byte{0}) {
		key, val, ok := bytes.Cut(field, []byte("="))
		if !ok {
			continue
		}
		v := string(val)
		switch string(key) {
		case "ACTION":
			e.Action = v
		case "SUBSYSTEM":
			subsystem = v
		case "DEVNAME":
			e.Name = v
		case "DEVTYPE":
			e.Type = v
		case "MAJOR":
			n, err := strconv.ParseUint(v, 10, 32)
			e.Major, haveMajor = uint32(n), err == nil
		case "MINOR":
			n, err := strconv.ParseUint(v, 10, 32)
			e.Minor, haveMinor = uint32(n), err == nil
		case "DISKSEQ":
			e.DiskSeq, _ = strconv.ParseUint(v, 10, 64)
		}
	}
	return e, subsystem == "block" && e.Action != "" && e.Name != "" && haveMajor && haveMinor
}
