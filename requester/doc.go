// Package requester is the client of the shadow copy service: what `umbra`
// and other Go programs use to make, transport, import and manage shadow
// copies. It talks only to its own machine's service, over a unix socket.
//
// One [BackupComponents] is one operation, as in VSS. On machine A:
//
//	bc, _ := requester.CreateBackupComponents(ctx, requester.Endpoint("unix:///run/umbra/umbra.sock"))
//	defer bc.Close()
//	bc.InitializeForBackup(ctx, nil)
//	bc.SetContext(ctx, vss.CTX_NAS_ROLLBACK|vss.Context(vss.ATTR_TRANSPORTABLE))
//	set, _ := bc.StartSnapshotSet(ctx)
//	id, _ := bc.AddToSnapshotSet(ctx, "/srv/db", vss.GUIDNull)
//	async, _ := bc.DoSnapshotSet(ctx)
//	code, err := async.Wait(ctx)
//	xml, _ := bc.SaveAsXML(ctx)
//
// and on machine B, with nothing but that document:
//
//	bc.InitializeForBackup(ctx, xml)
//	async, _ := bc.ImportSnapshots(ctx)
//	code, err := async.Wait(ctx)      // compare with VSS_S_ASYNC_FINISHED
//	prop, _ := bc.GetSnapshotProperties(ctx, id)
//	os.Open(prop.DeviceObject + "/file")
//
// Close releases the object, and with it its auto-release copies. Errors are
// *vss.Error.
package requester
