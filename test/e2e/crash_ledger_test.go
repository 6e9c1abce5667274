package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/site"
	"github.com/umbra-vss/umbra/test/crash"
)

// The crash matrix: at which failpoint which process was killed during what,
// and what came of it. Tests that kill enter a row for each death they have
// looked at; the whole is docs/crash-matrix.md, and TestMain holds that page to
// what a complete run entered, and the run to the failpoints there are.

var (
	ledger []crash.Death
	update = flag.Bool("update", false, "write docs/crash-matrix.md anew")
	full   = flag.Bool("full", false, "also kill what make test leaves out: at every failpoint over NBD")
)

// killing are the tests that enter rows, as the Makefile names them.
const killing = "TestKilled|TestForeignProvider"

const matrixPage = "../../docs/crash-matrix.md"

// died enters a row for a test that has not failed. answer is nil where the
// caller was told nothing bad.
func (f *fixture) died(point, process, during string, answer error, after string) {
	f.Helper()
	if f.Failed() {
		return
	}
	told := "done"
	if answer != nil {
		told = "fails"
		var ce *site.CommandError
		if errors.As(answer, &ce) {
			told = crash.Codes(ce.Stderr)
		}
	}
	ledger = append(ledger, crash.Death{Point: point, Process: process, During: during, Transport: f.transport, Answer: told, After: after})
}

// elsewhere are failpoints at which this package kills nobody, with the test
// that does.
var elsewhere = map[string]string{
	// What would change a copy's access, break and automatic recovery, is not
	// built yet.
	"array.access.before-record":  inChange,
	"array.access.after-record":   inChange,
	"array.thin.reserved":         inThin,
	"array.thin.made":             inThin,
	"array.thin.device-removed":   inThin,
	"array.thin.deleted":          inThin,
	"array.thin.targets-recorded": inThin,
	"array.thin.before-suspend":   inThin,
	"array.thin.suspended":        inThin,
	"array.thin.copied":           inThin,
	"array.thin.resumed":          inThin,
	"group.after-intent":          inGroup,
	"group.after-show":            inGroup,
	"group.after-end":             inGroup,
	"surface.group.after-loop":    inGroup,
	"surface.group.after-disk":    inGroup,
	"surface.group.after-drop":    inGroup,
	"regroup.after-disks":         inGroup,
	"regroup.after-activate":      inGroup,
	"regroup.after-deactivate":    inGroup,
	"writers.tell":                "no state changes there: tests of cancelling wait at it (`internal/service`)",
}

const (
	inThin   = "`TestDeath` (`internal/array/backend/lvmthin`), on a kernel with device-mapper: the lab's `TestThinPool`, and `TestThinArray` with the LUNs suspended"
	inGroup  = "the lab's `TestNewIdentity` (`make lab-lvm`), on a kernel with device-mapper and with LVM: what was not recorded is gone at the next start, what was is shown again"
	inChange = "`TestDeathInAChange` (`internal/array`), on a copy of the database as it was then"
)

// holdDeaths are not at a failpoint, but while writes are held.
const holdDeaths = `
## Deaths in the hold

Each is done on ext4, XFS and btrfs, on real block devices, by tests of
` + "`internal/host/freeze`" + ` (guard and daemon alone) and of ` + "`test/e2e`" + ` (the whole service).
After each nothing is frozen, and no set is made of a hold that was not whole.

| What happens while all is frozen | Who thaws | Shown by |
|---|---|---|
| the guard is killed | the daemon, within 100 ms | ` + "`TestKilledGuardIsThawedByTheDaemon`, `TestGuardDies`, `TestKilledGuard`" + ` |
| the guard is killed with a thread inside FIFREEZE, and the freeze comes late | the daemon, when that thread is gone | ` + "`TestKilledGuardWithAThreadInTheKernel`, `TestGuardDies`" + ` |
| the daemon is killed | the guard, within 100 ms | ` + "`TestDaemonDeath`, `TestDaemonDiesInHold`" + ` |
| the daemon is killed with a thread of the guard inside FIFREEZE | that thread, when it comes back | ` + "`TestDaemonDeathDuringFreeze`" + ` |
| both are killed | the next daemon, within 1 s of its start, or ` + "`umbra thaw-intents`" + ` | ` + "`TestBothKilled`, `TestGuardDies`" + ` |
| both are killed, and the volume is unmounted, mounted over, or its mount namespace ends | the same, by mounting the device again | ` + "`TestBothKilledAndUnmounted`, `TestRecoverMountedOver`, `TestRecoverAfterTheMountNamespaceDied`" + ` |
| the guard is stopped (SIGSTOP) | the daemon, at the release or at the limit | ` + "`TestStoppedGuardDoesNotDelayTheRelease`, `TestStoppedGuardDoesNotOutlastTheLimit`, `TestGuardDies`" + ` |
| the daemon is stopped | the guard, at the limit | ` + "`TestStoppedDaemon`, `TestGuardDies`" + ` |
| there is no memory: the kernel kills the daemon, or it ends itself, or it waits | the guard, at once, or at the limit | ` + "`TestMemoryExhausted`, `TestGuardDies`" + `; ` + "`TestGuardNeedsNoMemory`" + ` |
| somebody else thaws, or thaws, writes and freezes again | the guard; the set fails | ` + "`TestForeignThawIsReported`, `TestForeignThawWriteFreezeIsReported`, `TestForeignThaw`" + ` |
| the volume is unmounted lazily | the guard; the set is whole | ` + "`TestLazyUnmountDuringHold`, `TestVolumeGoesInHold`" + ` |
| the daemon dies, and with it the mount namespace that has the only mount | the guard | ` + "`TestMountNamespaceEndsWithTheDaemon`" + ` |

## Where nobody is killed
`

// missing are the failpoints that nobody died at, here or, by the page, in the
// lab.
func missing(rows []crash.Death) (out []string) {
	seen := map[string]bool{}
	for _, d := range rows {
		seen[d.Point] = true
	}
	for _, n := range failpoint.Names() {
		if !seen[n] && elsewhere[n] == "" {
			out = append(out, n)
		}
	}
	return out
}

// matrix is the page.
func matrix(rows []crash.Death) string {
	var b strings.Builder
	b.WriteString(`# The crash matrix

Every place in the service, the host's part of it, the array and the freeze guard
where state changes is a failpoint (` + "`internal/failpoint`" + `). Tests kill the process
with SIGKILL at each, start it again as its unit would, and check: nothing is
frozen, every LUN is owned, listed or gone, nothing is left on the machine that
nobody accounts for, and the same command works when it is given again. What
differs by how hosts have their LUNs is done over each transport: on one machine
over loop devices and NBD (` + "`test/e2e`" + `), on virtual machines over iSCSI and NVMe
([the lab](lab.md), ` + "`make lab-crash`" + `). This page is what they found. ` + "`make crash-matrix`" + ` kills
everything that can be killed on one machine and writes it; ` + "`make test`" + ` kills
everything over loop devices and a part over NBD, and fails if what it saw is not
on the page or a failpoint is not. What a caller of a dead array is told depends on
how soon the array is back, because harmless calls are repeated once; for these
rows it is what was seen last.

`)
	b.WriteString(crash.Table(rows))
	b.WriteString(holdDeaths)
	b.WriteString("\n")
	var others []string
	for n, why := range elsewhere {
		others = append(others, fmt.Sprintf("- `%s`: %s.\n", n, why))
	}
	slices.Sort(others)
	b.WriteString(strings.Join(others, ""))
	return b.String()
}

// checkMatrix is called after a run that passed. A part of the tests says
// nothing of the whole; asked to, it enters what it saw.
func checkMatrix() error {
	if os.Getenv(transportEnv) != "" {
		return nil
	}
	part := flag.Lookup("test.run").Value.String() + flag.Lookup("test.skip").Value.String()
	whole := []string{"loop"}
	switch {
	case part != "" && part != killing:
		if !*update {
			return nil
		}
		whole = nil
	case *full:
		whole = append(whole, "nbd")
	}
	have, err := os.ReadFile(filepath.FromSlash(matrixPage))
	if err != nil {
		return err
	}
	rows := crash.Merge(crash.Rows(string(have)), ledger, whole...)
	if m := missing(rows); len(m) > 0 {
		return fmt.Errorf("nobody dies at %s: add the failpoint to a test that kills, or say in crash_ledger_test.go where it is shown", strings.Join(m, ", "))
	}
	page := matrix(rows)
	if *update {
		return os.WriteFile(filepath.FromSlash(matrixPage), []byte(page), 0o644)
	}
	if d := crash.Differing(string(have), page); d != "" {
		return fmt.Errorf("docs/crash-matrix.md is not what was seen; if it should be, run `make crash-matrix`:\n%s", d)
	}
	if testing.Verbose() {
		fmt.Print(page)
	}
	return nil
}
