package session

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/api/order-of-calls.md")

// TestDocument: the published page is the table's.
func TestDocument(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "api", "order-of-calls.md")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != Markdown() {
		t.Errorf("%s is not what the table says (%v): run make generate", path, err)
	}
}

// published is every method of the interface and its extensions, as
// vsbackup.h declares them.
const published = `
GetWriterComponentsCount GetWriterComponents InitializeForBackup SetBackupState InitializeForRestore SetRestoreState
GatherWriterMetadata GetWriterMetadataCount GetWriterMetadata FreeWriterMetadata AddComponent PrepareForBackup AbortBackup
GatherWriterStatus GetWriterStatusCount FreeWriterStatus GetWriterStatus SetBackupSucceeded SetBackupOptions
SetSelectedForRestore SetRestoreOptions SetAdditionalRestores SetPreviousBackupStamp SaveAsXML BackupComplete
AddAlternativeLocationMapping AddRestoreSubcomponent SetFileRestoreStatus AddNewTarget SetRangesFilePath PreRestore PostRestore
SetContext StartSnapshotSet AddToSnapshotSet DoSnapshotSet DeleteSnapshots ImportSnapshots BreakSnapshotSet
GetSnapshotProperties Query IsVolumeSupported DisableWriterClasses EnableWriterClasses DisableWriterInstances ExposeSnapshot
RevertToSnapshot QueryRevertStatus
GetWriterMetadataEx SetSelectedForRestoreEx
UnexposeSnapshot SetAuthoritativeRestore SetRollForward SetRestoreName BreakSnapshotSetEx PreFastRecovery FastRecovery
GetWriterStatusEx AddSnapshotToRecoverySet RecoverSet GetSessionId
GetRootAndLogicalPrefixPaths`

// TestNoMethodIsAbsent: and none is twice, and each is legal somewhere or
// reserved.
func TestNoMethodIsAbsent(t *testing.T) {
	names := strings.Fields(published)
	for _, n := range names {
		d, ok := Describe(Method(n))
		if !ok {
			t.Errorf("%s is not in the table", n)
			continue
		}
		if (d.Readiness == Reserved) == legalIn(d.Method, all) {
			t.Errorf("%s: %s, and legal somewhere: %v", n, d.Readiness, legalIn(d.Method, all))
		}
	}
	own := 0
	for _, d := range Methods {
		if d.Interface == OwnCalls {
			own++
		}
	}
	if len(Methods) != len(names)+own || len(byName) != len(Methods) {
		t.Errorf("%d methods, %d names, %d published and %d own", len(Methods), len(byName), len(names), own)
	}
	for _, d := range Methods {
		r, ok := AsyncResults[d.Method]
		if want := d.Async && d.Readiness == Works; ok != want || want && len(r.Published) == 0 {
			t.Errorf("%s: asynchronous and works %v, results %v", d.Method, want, r)
		}
	}
	if len(meanings) != len(all) {
		t.Errorf("%d states are described of %d", len(meanings), len(all))
	}
}
