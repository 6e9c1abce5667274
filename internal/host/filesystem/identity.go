package filesystem

// Types that Probe tells apart. The kernel's ext4 driver mounts all of ext.
const (
	TypeExt2  = "ext2"
	TypeExt3  = "ext3"
	TypeExt4  = "ext4"
	TypeXFS   = "xfs"
	TypeBtrfs = "btrfs"
	// TypeJournal is an ext external journal device: a member of a volume, not
	// a volume. Its UUID is what the filesystem's ExternalJournal says.
	TypeJournal = "jbd"
)

// Identity is what a superblock says of its filesystem. Some of it changes while
// the filesystem is used; what stays is compared by [Identity.Same].
type Identity struct {
	Type       string // "" if the device holds nothing Umbra knows
	UUID       string // lower case, with hyphens
	Label      string
	Size       uint64 // bytes of the whole filesystem
	DeviceSize uint64 // bytes it claims of this device; differs from Size on a multi-device btrfs only
	DeviceUUID string // btrfs: this device's UUID
	DeviceID   uint64 // btrfs: this device's number in the filesystem
	Devices    int    // btrfs: how many devices there are; else 1

	ExternalJournal string // ext: UUID of the journal device, "" if the journal is inside
	JournalNumber   uint64 // ext: the journal's device number (st_rdev) when it was last mounted; a hint
	ExternalLog     bool   // xfs: the log is on another device
	Realtime        bool   // xfs: there is a realtime device
	NeedsReplay     bool   // ext, btrfs: a journal or log tree waits to be replayed, as while it is mounted

	// Features are the on-disk format's feature words, to explain why another
	// kernel will not mount it: "compat=3c incompat=2c2 ro_compat=46b".
	Features string
}

// IsExt reports whether it is one of the ext family.
func (i Identity) IsExt() bool {
	return i.Type == TypeExt2 || i.Type == TypeExt3 || i.Type == TypeExt4
}

// Driver is the kernel's name of the filesystem that mounts it.
func (i Identity) Driver() string {
	if i.IsExt() {
		return TypeExt4
	}
	return i.Type
}

// Same reports whether two superblocks are of one filesystem, or of one and its
// copy: by type, UUID and, where both are known, btrfs device UUID. It may have
// grown, been relabelled or been unmounted in between.
func (i Identity) Same(other Identity) bool {
	return i.Type == other.Type && i.UUID == other.UUID &&
		(i.DeviceUUID == "" || other.DeviceUUID == "" || i.DeviceUUID == other.DeviceUUID)
}
