package vssapi_test

import (
	"fmt"

	"github.com/umbra-vss/umbra/vss"
	"github.com/umbra-vss/umbra/vssapi"
)

// failed is FAILED(hr) with the name of the call, as the samples' CHECK_COM.
func failed(hr vss.HResult, call string) error {
	if hr.Failed() {
		return fmt.Errorf("%s: %w", call, hr)
	}
	return nil
}

// waitAndCheck is the sample's WaitAndCheckForAsyncOperation: Wait,
// QueryStatus, Release. The operation must have finished, exactly.
func waitAndCheck(async vssapi.IVssAsync, call string) error {
	defer async.Release()
	if err := failed(async.Wait(vssapi.INFINITE), call+": Wait"); err != nil {
		return err
	}
	var hr vss.HResult
	if err := failed(async.QueryStatus(&hr, nil), call+": QueryStatus"); err != nil {
		return err
	}
	if hr != vss.VSS_S_ASYNC_FINISHED {
		return fmt.Errorf("%s: %w", call, hr)
	}
	return nil
}

// created is machine A's half of a transport.
type created struct {
	backup vssapi.IVssBackupComponents // kept open until B has reported
	copies []vss.ID
	xml    string
}

// create is the published flow of a transportable set with writers, call by
// call (requester.md 2.2 A and C).
func create(volumes ...string) (*created, error) {
	var backup vssapi.IVssBackupComponents
	if err := failed(vssapi.CreateVssBackupComponents(&backup), "CreateVssBackupComponents"); err != nil {
		return nil, err
	}
	out := &created{backup: backup}
	var async vssapi.IVssAsync
	run := func(call string, f func(*vssapi.IVssAsync) vss.HResult) error {
		if err := failed(f(&async), call); err != nil {
			return err
		}
		return waitAndCheck(async, call)
	}
	steps := []func() error{
		func() error { return failed(backup.InitializeForBackup(""), "InitializeForBackup") },
		func() error {
			return failed(backup.SetContext(vss.CTX_APP_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE)), "SetContext")
		},
		func() error { return failed(backup.SetBackupState(true, true, vss.BT_FULL, false), "SetBackupState") },
		func() error { return run("GatherWriterMetadata", backup.GatherWriterMetadata) },
		func() error {
			var n uint32
			if err := failed(backup.GetWriterMetadataCount(&n), "GetWriterMetadataCount"); err != nil {
				return err
			}
			for i := range n {
				var instance vss.ID
				var metadata vssapi.IVssExamineWriterMetadata
				if err := failed(backup.GetWriterMetadata(i, &instance, &metadata), "GetWriterMetadata"); err != nil {
					return err
				}
				metadata.Release()
			}
			return failed(backup.FreeWriterMetadata(), "FreeWriterMetadata")
		},
		func() error {
			var set vss.ID
			return failed(backup.StartSnapshotSet(&set), "StartSnapshotSet")
		},
		func() error {
			for _, v := range volumes {
				var ok bool
				if err := failed(backup.IsVolumeSupported(vss.GUIDNull, v, &ok), "IsVolumeSupported"); err != nil {
					return err
				}
				if !ok {
					return fmt.Errorf("%s cannot be copied", v)
				}
				var id vss.ID
				if err := failed(backup.AddToSnapshotSet(v, vss.GUIDNull, &id), "AddToSnapshotSet"); err != nil {
					return err
				}
				out.copies = append(out.copies, id)
			}
			return nil
		},
		func() error { return run("PrepareForBackup", backup.PrepareForBackup) },
		func() error { return writersAreWell(backup) },
		func() error { return run("DoSnapshotSet", backup.DoSnapshotSet) },
		func() error { return writersAreWell(backup) },
		func() error { return failed(backup.SaveAsXML(&out.xml), "SaveAsXML") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			backup.AbortBackup()
			backup.Release()
			return nil, err
		}
	}
	return out, nil
}

// writersAreWell is the sample's GatherWriterStatus and CheckSelectedWriterStatus.
func writersAreWell(backup vssapi.IVssBackupComponents) error {
	var async vssapi.IVssAsync
	if err := failed(backup.GatherWriterStatus(&async), "GatherWriterStatus"); err != nil {
		return err
	}
	if err := waitAndCheck(async, "GatherWriterStatus"); err != nil {
		return err
	}
	defer backup.FreeWriterStatus()
	var n uint32
	if err := failed(backup.GetWriterStatusCount(&n), "GetWriterStatusCount"); err != nil {
		return err
	}
	for i := range n {
		var instance, class vss.ID
		var name string
		var state vss.WriterState
		var failure vss.HResult
		if err := failed(backup.GetWriterStatus(i, &instance, &class, &name, &state, &failure), "GetWriterStatus"); err != nil {
			return err
		}
		if err := failed(failure, name); err != nil {
			return err
		}
	}
	return nil
}

// complete is A's end of the transport, once B has reported.
func (c *created) complete() error {
	defer c.backup.Release()
	var async vssapi.IVssAsync
	if err := failed(c.backup.BackupComplete(&async), "BackupComplete"); err != nil {
		return err
	}
	if err := waitAndCheck(async, "BackupComplete"); err != nil {
		return err
	}
	return writersAreWell(c.backup)
}

// importSet is the published import flow of machine B, call by call
// (requester.md 3.2 and 3.8), with what the copies look like afterwards.
func importSet(xml string, copies []vss.ID) (props []vss.SnapshotProp, err error) {
	var backup vssapi.IVssBackupComponents
	if err := failed(vssapi.CreateVssBackupComponents(&backup), "CreateVssBackupComponents"); err != nil {
		return nil, err
	}
	defer backup.Release()
	if err := failed(backup.InitializeForBackup(xml), "InitializeForBackup"); err != nil {
		return nil, err
	}
	if err := failed(backup.SetContext(vss.CTX_ALL), "SetContext"); err != nil {
		return nil, err
	}
	if err := failed(backup.SetBackupState(true, true, vss.BT_FULL, false), "SetBackupState"); err != nil {
		return nil, err
	}
	var async vssapi.IVssAsync
	if err := failed(backup.ImportSnapshots(&async), "ImportSnapshots"); err != nil {
		return nil, err
	}
	// VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED is no failure, and not what is wanted.
	if err := waitAndCheck(async, "ImportSnapshots"); err != nil {
		return nil, err
	}
	for _, id := range copies {
		var p vss.SnapshotProp
		if err := failed(backup.GetSnapshotProperties(id, &p), "GetSnapshotProperties"); err != nil {
			return nil, err
		}
		props = append(props, p)
		vssapi.VssFreeSnapshotProperties(&p)
	}

	// QuerySnapshotSet: all copies, one by one.
	var enum vssapi.IVssEnumObject
	hr := backup.Query(vss.GUIDNull, vss.OBJECT_NONE, vss.OBJECT_SNAPSHOT, &enum)
	if err := failed(hr, "Query"); err != nil {
		return nil, err
	}
	if hr == vss.S_FALSE { // nothing; Umbra answers S_OK and an empty enumerator
		return props, nil
	}
	defer enum.Release()
	for {
		prop := make([]vss.ObjectProp, 1)
		var fetched uint32
		if err := failed(enum.Next(1, prop, &fetched), "Next"); err != nil {
			return nil, err
		}
		if fetched == 0 {
			return props, nil
		}
		vssapi.VssFreeSnapshotProperties(prop[0].Snapshot)
	}
}

// Machine A makes a set of two volumes, sends the document, and completes its
// backup when B has reported.
func Example_create() {
	set, err := create("/srv/db", "/srv/log")
	if err != nil {
		fmt.Println(err)
		return
	}
	// Send set.xml, wait for the report of what importSet came to, then:
	if err := set.complete(); err != nil {
		fmt.Println(err)
	}
}

// Machine B imports it.
func Example_import() {
	var xml string // that A sent
	props, err := importSet(xml, nil)
	if err != nil {
		fmt.Println(err)
	}
	for _, p := range props {
		fmt.Println(p.SnapshotID, "is at", p.DeviceObject)
	}
}
