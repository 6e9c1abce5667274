// Package devicemapper speaks to the kernel's device-mapper: it makes block
// devices out of pieces of others, suspends and resumes them, and takes them
// away. It uses the ioctls of /dev/mapper/control and nothing else: no dmsetup,
// no libdevmapper, no udev daemon is needed, and no process is started, which
// is what a hold allows.
//
//	c, err := devicemapper.Open()
//	d, err := c.Make(ctx, devicemapper.Spec{Name: "umbra-x", UUID: "UMBRA-x", ReadOnly: true, Udev: devicemapper.Alone,
//		Targets: []devicemapper.Target{{Length: sectors, Type: "linear", Params: "8:16 2048"}}})
//	node, err := d.Node()                 // /dev/dm-3
//	_, err = c.Remove(ctx, d.Ref(), false, devicemapper.Alone)
//
// # A device's life
//
// Create gives a device its name and number, and nothing else. Load puts a
// table of targets in waiting; Resume makes it the live one. From then on the
// device can be read. Load and Resume again change the table under its users.
// [Control.Make] does the three and takes back what it did if one fails.
//
// # Suspending
//
// A suspended device takes no I/O: whoever reads or writes it waits, in a state
// that no signal ends, until somebody resumes it. So whoever suspends must have
// arranged for the resume before, also for his own death. The kernel waits for
// I/O that is under way; a device below that does not answer makes the suspend
// wait as long. When the caller's context ends, the wait is broken off and the
// device goes on as before. Where even that has no effect (the kernel is writing
// a filesystem's dirty pages out, or the device below has hung) the call returns
// nevertheless, and should the suspend succeed later it is undone at once. No
// suspend outlives a call that failed.
//
// Device-mapper freezes the filesystem of a device that it suspends, if it is
// mounted on this machine, unless [SkipLockFS] says that its owner sees to that.
//
// # udev
//
// udev's rules read what a device holds, and may activate what they find there.
// [Udev] flags travel with the event of a resume or a removal and tell rules
// what to leave out. They work for all rules that come with LVM and systemd;
// programs that look at all devices by themselves (vgs, blkid) do not ask.
package devicemapper
