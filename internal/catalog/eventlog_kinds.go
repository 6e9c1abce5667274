package catalog

import (
	"slices"
	"strings"
)

// Kind is a kind of event. Scripts, alerts and the systemd journal know it by
// its name and its number: neither is ever changed, or used for something else.
type Kind struct {
	Number int
	Name   string
	Level  Level
	When   string // what docs/operations.md says of it
}

// Level is how bad an event is.
type Level string

// Levels.
const (
	Info    Level = "info"
	Warning Level = "warning"
	Failed  Level = "error"
)

var levels = []Level{Info, Warning, Failed}

// Valid reports whether it is one of the levels.
func (l Level) Valid() bool { return slices.Contains(levels, l) }

// AtLeast reports whether l is as bad as other or worse.
func (l Level) AtLeast(other Level) bool {
	return slices.Index(levels, l) >= slices.Index(levels, other)
}

// Kinds are all there are; a test holds the code and docs/operations.md to
// them. The hundreds are the areas: 1 making, 2 importing, 3 copies, 4
// cleaning up, 5 recovery, 9 the service itself.
var Kinds = []Kind{
	{100, "create.done", Info, "a set was made and is durable; it waits to be imported, or is shown to this machine"},
	{101, "create.failed", Failed, "a set could not be made; its volumes are released and its copies dropped"},

	{200, "import.done", Info, "all copies of a set are here"},
	{201, "import.partial", Warning, "some copies are here; the rest is listed"},
	{202, "import.failed", Failed, "no copy is here; what is left is listed"},
	{203, "import.refused", Failed, "the import was refused before anything was unmasked"},
	{204, "import.rules-left", Warning, "udev rules of LUNs that did not come could not be removed"},
	{205, "import.copy-failed", Failed, "one copy of a set, named by its LUN, could not be imported, or a provider refused them all"},

	{300, "copy.not-mounted", Warning, "a copy is here and has a block node, but no device object; the reason is in it"},
	{310, "delete.done", Info, "a copy was deleted"},
	{311, "delete.failed", Failed, "a copy could not be deleted and stays"},

	{400, "cleanup.masked", Info, "a LUN a failed import left was hidden again"},
	{401, "cleanup.reclaimed", Info, "a LUN a failed import left was destroyed"},
	{402, "cleanup.failed", Failed, "something could not be cleaned up and stays listed"},

	{500, "recovery.thawed", Warning, "at start: a filesystem that may have been left frozen was dealt with; the action is in the message"},
	{501, "recovery.create-dropped", Warning, "at start: a set that was being made was dropped; or later: what a failed creation had left, which its array could not be told before"},
	{502, "recovery.import-interrupted", Warning, "at start: an import that was broken off is listed"},
	{503, "recovery.cleanup-interrupted", Warning, "at start: a clean-up was broken off; run it again"},
	{504, "recovery.delete-finished", Warning, "at start: a deletion that was broken off was finished"},
	{505, "recovery.auto-released", Info, "at start: a copy was deleted that does not outlive its requester, or the boot"},
	{506, "recovery.not-released", Failed, "at start: such a copy could not be deleted"},
	{507, "recovery.copy-missing", Failed, "at start: a copy's LUN did not come back; it is looked for from then on"},
	{508, "recovery.copy-found", Info, "later: such a copy is attached, mounted and exposed again"},
	{509, "recovery.exposure-lost", Failed, "at start: an exposure could not be restored"},
	{510, "recovery.failed", Failed, "at start: something could not be put right; it is tried again at the next start, a creation's leftovers before as well"},
	{511, "recovery.device-replaced", Warning, "at start: the device of a copy's LUN had been detached while the service was away; the LUN is attached again"},
	{512, "recovery.mount-restored", Warning, "at start: a device object or an exposure had been unmounted while the service was away; it is mounted again"},
	{513, "recovery.original-missing", Warning, "at start: a LUN that `umbra rescan` let through is not attached; `umbra rescan` attaches it, `umbra detach` forgets it"},

	{900, "service.unexpected", Failed, "an operation failed in a way nobody foresaw (`VSS_E_UNEXPECTED`); please report it"},
	{901, "service.panic", Failed, "a defect was caught; the message is the stack"},
	{902, "provider.unexpected", Failed, "a provider answered with a code the contract does not allow; provider and method are in it"},
	{903, "provider.broken", Failed, "a provider's program did not start, died, did not answer in time, or answered nonsense; provider, method and time are in it"},
	{904, "provider.registered", Info, "a provider was registered"},
	{905, "provider.unregistered", Info, "a provider was unregistered"},
	{910, "events.dropped", Warning, "more events came during a hold than its queue takes"},
}

// KindOf finds a kind by its name.
func KindOf(name string) (Kind, bool) {
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return Kinds[i], true
}

// named reports whether an event's name is the one asked for, or in its area:
// "import" is all that begins with "import.".
func named(name, asked string) bool {
	return name == asked || strings.HasPrefix(name, strings.TrimSuffix(asked, ".")+".")
}

// KnownName reports whether any kind could be meant by a name or an area.
func KnownName(asked string) bool {
	return slices.ContainsFunc(Kinds, func(k Kind) bool { return named(k.Name, asked) })
}
