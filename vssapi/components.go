package vssapi

import (
	"context"
	"math"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

var background = context.Background()

// components is every interface from IVssBackupComponents to Ex4.
type components struct {
	references
	bc *requester.BackupComponents
}

// CreateVssBackupComponents makes an object.
func CreateVssBackupComponents(ppBackup *IVssBackupComponents) vss.HResult {
	if ppBackup == nil {
		return vss.E_INVALIDARG
	}
	*ppBackup = nil
	bc, err := requester.CreateBackupComponents(background, where())
	if err == nil {
		*ppBackup = &components{bc: bc}
	}
	return vss.CodeOf(err)
}

func (c *components) QueryInterface(ppv any) vss.HResult {
	for _, ask := range []func(any) (vss.HResult, bool){
		func(p any) (vss.HResult, bool) { return query[IVssBackupComponents](c, p) },
		func(p any) (vss.HResult, bool) { return query[IVssBackupComponentsEx](c, p) },
		func(p any) (vss.HResult, bool) { return query[IVssBackupComponentsEx2](c, p) },
		func(p any) (vss.HResult, bool) { return query[IVssBackupComponentsEx3](c, p) },
		func(p any) (vss.HResult, bool) { return query[IVssBackupComponentsEx4](c, p) },
		func(p any) (vss.HResult, bool) { return query[IUnknown](c, p) },
	} {
		if code, done := ask(ppv); done {
			return code
		}
	}
	return E_NOINTERFACE
}

func (c *components) Release() uint32 {
	left, last := c.release()
	if last {
		_ = c.bc.Close()
	}
	return left
}

func count(p *uint32, f func(context.Context) (int, error)) vss.HResult {
	if p == nil {
		return vss.E_INVALIDARG
	}
	n, err := f(background)
	return put(p, uint32(n), err)
}

// index keeps an unsigned index what it is where int has 32 bits.
func index(i uint32) int { return int(min(uint64(i), math.MaxInt)) }

func (c *components) InitializeForBackup(bstrXML string) vss.HResult {
	return vss.CodeOf(c.bc.InitializeForBackup(background, []byte(bstrXML)))
}

func (c *components) InitializeForRestore(bstrXML string) vss.HResult {
	return vss.CodeOf(c.bc.InitializeForRestore(background, []byte(bstrXML)))
}

func (c *components) SetContext(lContext vss.Context) vss.HResult {
	return vss.CodeOf(c.bc.SetContext(background, lContext))
}

func (c *components) SetBackupState(bSelectComponents, bBackupBootableSystemState bool, backupType vss.BackupType, bPartialFileSupport bool) vss.HResult {
	return vss.CodeOf(c.bc.SetBackupState(background, bSelectComponents, bBackupBootableSystemState, backupType, bPartialFileSupport))
}

func (c *components) SetRestoreState(restoreType vss.RestoreType) vss.HResult {
	return vss.CodeOf(c.bc.SetRestoreState(background, restoreType))
}

func (c *components) PrepareForBackup(ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.PrepareForBackup)
}

func (c *components) DoSnapshotSet(ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.DoSnapshotSet)
}

func (c *components) BackupComplete(ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.BackupComplete)
}

func (c *components) PreRestore(ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.PreRestore)
}

func (c *components) PostRestore(ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.PostRestore)
}

func (c *components) AbortBackup() vss.HResult { return vss.CodeOf(c.bc.AbortBackup(background)) }

func (c *components) SaveAsXML(pbstrXML *string) vss.HResult {
	if pbstrXML == nil {
		return vss.E_INVALIDARG
	}
	xml, err := c.bc.SaveAsXML(background)
	return put(pbstrXML, string(xml), err)
}

func (c *components) StartSnapshotSet(pSnapshotSetId *vss.ID) vss.HResult {
	if pSnapshotSetId == nil {
		return vss.E_INVALIDARG
	}
	id, err := c.bc.StartSnapshotSet(background)
	return put(pSnapshotSetId, id, err)
}

func (c *components) AddToSnapshotSet(pwszVolumeName string, providerId vss.ID, pidSnapshot *vss.ID) vss.HResult {
	if pidSnapshot == nil {
		return vss.E_INVALIDARG
	}
	id, err := c.bc.AddToSnapshotSet(background, pwszVolumeName, providerId)
	return put(pidSnapshot, id, err)
}

func (c *components) IsVolumeSupported(providerId vss.ID, pwszVolumeName string, pbSupportedByThisProvider *bool) vss.HResult {
	if pbSupportedByThisProvider == nil {
		return vss.E_INVALIDARG
	}
	ok, err := c.bc.IsVolumeSupported(background, providerId, pwszVolumeName)
	return put(pbSupportedByThisProvider, ok, err)
}

func (c *components) ImportSnapshots(ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.ImportSnapshots)
}

func (c *components) Query(queriedObjectId vss.ID, eQueriedObjectType, eReturnedObjectsType vss.ObjectType, ppEnum *IVssEnumObject) vss.HResult {
	if ppEnum == nil {
		return vss.E_INVALIDARG
	}
	*ppEnum = nil
	e, err := c.bc.Query(background, queriedObjectId, eQueriedObjectType, eReturnedObjectsType)
	if err == nil {
		*ppEnum = &enum{e: e}
	}
	return vss.CodeOf(err)
}

func (c *components) GetSnapshotProperties(snapshotId vss.ID, pProp *vss.SnapshotProp) vss.HResult {
	if pProp == nil {
		return vss.E_INVALIDARG
	}
	p, err := c.bc.GetSnapshotProperties(background, snapshotId)
	return put(pProp, p, err)
}

func (c *components) DeleteSnapshots(sourceObjectId vss.ID, eSourceObjectType vss.ObjectType, bForceDelete bool, plDeletedSnapshots *int32, pNondeletedSnapshotID *vss.ID) vss.HResult {
	if plDeletedSnapshots == nil || pNondeletedSnapshotID == nil {
		return vss.E_INVALIDARG
	}
	n, failed, err := c.bc.DeleteSnapshots(background, sourceObjectId, eSourceObjectType, bForceDelete)
	*plDeletedSnapshots, *pNondeletedSnapshotID = int32(n), failed // valid beside a failure
	return vss.CodeOf(err)
}

func (c *components) ExposeSnapshot(snapshotId vss.ID, wszPathFromRoot string, lAttributes vss.Attributes, wszExpose string, pwszExposed *string) vss.HResult {
	if pwszExposed == nil {
		return vss.E_INVALIDARG
	}
	name, err := c.bc.ExposeSnapshot(background, snapshotId, wszPathFromRoot, lAttributes, wszExpose)
	return put(pwszExposed, name, err)
}

func (c *components) UnexposeSnapshot(snapshotId vss.ID) vss.HResult {
	return vss.CodeOf(c.bc.UnexposeSnapshot(background, snapshotId))
}

func (c *components) BreakSnapshotSet(snapshotSetId vss.ID) vss.HResult {
	return vss.CodeOf(c.bc.BreakSnapshotSet(background, snapshotSetId))
}

func (c *components) BreakSnapshotSetEx(snapshotSetId vss.ID, dwBreakFlags vss.HardwareOptions, ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, func(ctx context.Context) (*requester.Async, error) {
		return c.bc.BreakSnapshotSetEx(ctx, snapshotSetId, dwBreakFlags)
	})
}

func (c *components) RevertToSnapshot(snapshotId vss.ID, bForceDismount bool) vss.HResult {
	return vss.CodeOf(c.bc.RevertToSnapshot(background, snapshotId, bForceDismount))
}

func (c *components) QueryRevertStatus(pwszVolume string, ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, func(ctx context.Context) (*requester.Async, error) { return c.bc.QueryRevertStatus(ctx, pwszVolume) })
}

func (c *components) PreFastRecovery(_ vss.ID, _ uint32, ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.PreFastRecovery)
}

func (c *components) FastRecovery(_ vss.ID, _ uint32, ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.FastRecovery)
}

func (c *components) AddSnapshotToRecoverySet(snapshotId vss.ID, dwFlags uint32, pwszDestinationVolume string) vss.HResult {
	return vss.CodeOf(c.bc.AddSnapshotToRecoverySet(background, snapshotId, dwFlags, pwszDestinationVolume))
}

func (c *components) RecoverSet(dwFlags vss.RecoveryOptions, ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, func(ctx context.Context) (*requester.Async, error) { return c.bc.RecoverSet(ctx, dwFlags) })
}

func (c *components) GetSessionId(idSession *vss.ID) vss.HResult {
	if idSession == nil {
		return vss.E_INVALIDARG
	}
	id, err := c.bc.GetSessionID(background)
	return put(idSession, id, err)
}

func (c *components) GetRootAndLogicalPrefixPaths(pwszFilePath string, ppwszRootPath, ppwszLogicalPrefix *string, bNormalizeFQDNforRootPath bool) vss.HResult {
	if ppwszRootPath == nil || ppwszLogicalPrefix == nil {
		return vss.E_INVALIDARG
	}
	root, prefix, err := c.bc.GetRootAndLogicalPrefixPaths(background, pwszFilePath, bNormalizeFQDNforRootPath)
	put(ppwszRootPath, root, err)
	return put(ppwszLogicalPrefix, prefix, err)
}
