package doctor

import "slices"

// Kind is a kind of finding. Its name is never changed, or used for something else.
type Kind struct {
	Name     string
	Severity Severity
	When     string // it is found, as docs/operations.md says
	Why      string // it matters
	Help     string // what helps, as docs/operations.md says; findings name the objects
}

// Kinds are all there are; a test holds the code and docs/operations.md to them.
var Kinds = []Kind{
	{"array.ended", Error, "this machine's array does not run, although its socket is there", "its LUNs stay attached here, but nothing can be made, imported or deleted", "`systemctl restart umbra-array`"},
	{"array.stopped", Error, "this machine's array was stopped by a signal or a debugger", "no host gets an answer from it", "`kill -CONT PID`"},
	{"array.unreachable", Error, "a joined array does not answer", "nothing of it can be copied, imported or deleted", "`systemctl restart umbra-array` on its machine; `umbra list arrays` says where it is looked for"},
	{"array.waiting", Warning, "a call to an array has been out for more than 2 s", "whoever wanted it waits", "`umbra list arrays`; it is given up at its deadline"},
	{"async.unreleased", Warning, "an operation ended 10 minutes ago, and its program has neither fetched the end nor let go of it", "there is a limit of such operations", "`kill PID` of the program"},
	{"attachment.dead", Error, "a LUN is attached, and what it is reached by does not work: an iSCSI session, an NVMe connection, an NBD server", "reading it fails or waits", "as the finding says; `umbra rescan LUN` brings back an original"},
	{"catalog.unreadable", Error, "the catalogue cannot be read", "nobody knows which copies are here", "restore `catalog.db`, or move it away"},
	{"check.late", Warning, "a look of the doctor's own did not come back in time", "something may be wrong that is not in this list", "`umbra doctor --timeout 30s`"},
	{"copy.missing", Error, "a copy's device is not here", "the copy cannot be read", "`systemctl restart umbra` looks for it at once; `umbra delete copy COPY` gives it up"},
	{"create.left", Warning, "a creation failed or was broken off, and its copies could not be dropped yet", "they take room on the array", "the daemon goes on trying; `umbra list arrays` says who does not answer"},
	{"daemon.blocked", Warning, "threads of the daemon are in the kernel and cannot be interrupted", "what they were asked for waits, and so does the daemon's end", "mend the storage or file server they wait for; `dmesg` may name it"},
	{"daemon.ended", Error, "the daemon does not run", "no copy can be made, imported or deleted; a freeze it left stays", "`systemctl restart umbra`"},
	{"daemon.silent", Error, "the daemon runs and does not answer", "every command waits for it", "`systemctl restart umbra`"},
	{"daemon.stopped", Error, "the daemon was stopped by a signal or a debugger", "every command waits for it, and only the guard thaws", "`kill -CONT PID`"},
	{"device.stuck", Error, "the opening or reading of a device has not come back for 5 s", "the volume or import it is for waits", "mend the storage below; `dmesg` names it"},
	{"exposure.lost", Error, "a copy is exposed on a folder where it is not mounted", "who looks there sees another folder", "`umbra unexpose COPY`, then `umbra expose COPY FOLDER`"},
	{"guard.stopped", Error, "a freeze guard was stopped by a signal or a debugger", "it does not thaw; a daemon that lives does it in its place", "`kill -CONT PID`"},
	{"guard.stuck", Error, "a thread of a freeze guard is in FIFREEZE or FITHAW, seen in /proc", "the filesystem is frozen, or will be when the call comes back", "mend the storage below; nothing can interrupt the call, and Umbra thaws when it comes back"},
	{"hold.left", Error, "a hold intent is there, and neither daemon nor guard", "the filesystems it names may be frozen, and nobody thaws them", "`umbra thaw-intents`"},
	{"hold.overdue", Error, "a filesystem has been frozen by Umbra for longer than the limit", "all who write to it wait", "`kill -CONT PID` of a guard that is stopped; `systemctl restart umbra` thaws; at last `fsfreeze -u FOLDER`"},
	{"hold.stuck", Error, "a freeze or thaw has not come back from the kernel for 1 s", "all who write to the filesystem wait, and no set can be made of it", "mend the storage below; nothing can interrupt the call, and Umbra thaws when it comes back"},
	{"import.broken", Error, "an import failed or was broken off and left LUNs", "they are unmasked to this machine, and the set cannot be imported again", "`umbra cleanup SET`"},
	{"lun.orphaned", Error, "a LUN of a failed import may still be unmasked to this machine", "nobody owns it, and its space is not freed", "`umbra cleanup SET`"},
	{"mount.stuck", Error, "a mount or unmount has not come back for 5 s", "the copy can be neither read nor deleted", "`umount -l FOLDER`; mend the storage or server below"},
	{"operation.slow", Warning, "an operation has been in one phase for more than 30 s, or holding for more than 2 s", "its requester waits", "see what else is found; `kill -INT PID` of the requester gives it up"},
	{"program.slow", Warning, "a helper program has been running for more than 5 s", "what it was started for waits", "`kill PID`; it is killed at its deadline"},
	{"provider.broken", Error, "a provider's program does not start", "its LUNs can be neither copied nor imported", "`umbra provider validate`, and the provider's own log"},
	{"provider.waiting", Warning, "a call to a provider's program has been out for more than 2 s", "the operation that called waits", "`kill -CONT PID` if it is stopped, else `kill PID`; the next call starts it anew"},
	{"request.slow", Warning, "a requester's call has been running for more than 30 s", "its requester waits", "see what else is found"},
}

// KindOf finds a kind by its name.
func KindOf(name string) (Kind, bool) {
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return Kinds[i], true
}
