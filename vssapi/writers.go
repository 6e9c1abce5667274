package vssapi

import (
	"context"

	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

func (c *components) EnableWriterClasses(rgWriterClassId []vss.ID) vss.HResult {
	return vss.CodeOf(c.bc.EnableWriterClasses(background, rgWriterClassId...))
}

func (c *components) DisableWriterClasses(rgWriterClassId []vss.ID) vss.HResult {
	return vss.CodeOf(c.bc.DisableWriterClasses(background, rgWriterClassId...))
}

func (c *components) DisableWriterInstances(rgWriterInstanceId []vss.ID) vss.HResult {
	return vss.CodeOf(c.bc.DisableWriterInstances(background, rgWriterInstanceId...))
}

func (c *components) GatherWriterMetadata(ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.GatherWriterMetadata)
}

func (c *components) GetWriterMetadataCount(pcWriters *uint32) vss.HResult {
	return count(pcWriters, c.bc.GetWriterMetadataCount)
}

func (c *components) GetWriterMetadata(iWriter uint32, pidInstance *vss.ID, ppMetadata *IVssExamineWriterMetadata) vss.HResult {
	return metadata(iWriter, pidInstance, ppMetadata, c.bc.GetWriterMetadata)
}

func (c *components) GetWriterMetadataEx(iWriter uint32, pidInstance *vss.ID, ppMetadata *IVssExamineWriterMetadata) vss.HResult {
	return metadata(iWriter, pidInstance, ppMetadata, c.bc.GetWriterMetadataEx)
}

func metadata(i uint32, pidInstance *vss.ID, pp *IVssExamineWriterMetadata, f func(context.Context, int) (vss.ID, *document.ExaminedWriterMetadata, error)) vss.HResult {
	if pidInstance == nil || pp == nil {
		return vss.E_INVALIDARG
	}
	*pp = nil
	id, m, err := f(background, index(i))
	if err == nil {
		*pp = &examine{m: m}
	}
	return put(pidInstance, id, err)
}

func (c *components) FreeWriterMetadata() vss.HResult {
	return vss.CodeOf(c.bc.FreeWriterMetadata(background))
}

func (c *components) GatherWriterStatus(ppAsync *IVssAsync) vss.HResult {
	return start(ppAsync, c.bc.GatherWriterStatus)
}

func (c *components) GetWriterStatusCount(pcWriters *uint32) vss.HResult {
	return count(pcWriters, c.bc.GetWriterStatusCount)
}

func (c *components) GetWriterStatus(iWriter uint32, pidInstance, pidWriter *vss.ID, pbstrWriter *string, pnStatus *vss.WriterState, phResultFailure *vss.HResult) vss.HResult {
	return status(iWriter, pidInstance, pidWriter, pbstrWriter, pnStatus, phResultFailure, nil, nil, c.bc.GetWriterStatus)
}

func (c *components) GetWriterStatusEx(iWriter uint32, pidInstance, pidWriter *vss.ID, pbstrWriter *string, pnStatus *vss.WriterState,
	phrFailureWriter, phrApplication *vss.HResult, pbstrApplicationMessage *string) vss.HResult {
	return status(iWriter, pidInstance, pidWriter, pbstrWriter, pnStatus, phrFailureWriter, phrApplication, pbstrApplicationMessage, c.bc.GetWriterStatusEx)
}

// status gives a writer's status through out parameters, of which the
// application's code and message may be left out.
func status(i uint32, pidInstance, pidWriter *vss.ID, pbstrWriter *string, pnStatus *vss.WriterState, phrFailure, phrApplication *vss.HResult, pbstrMessage *string,
	f func(context.Context, int) (requester.WriterStatus, error)) vss.HResult {
	if pidInstance == nil || pidWriter == nil || pbstrWriter == nil || pnStatus == nil || phrFailure == nil {
		return vss.E_INVALIDARG
	}
	s, err := f(background, index(i))
	*pidInstance, *pidWriter, *pbstrWriter, *pnStatus, *phrFailure = s.InstanceID, s.WriterID, s.Name, s.State, s.Failure
	if phrApplication != nil {
		*phrApplication = s.ApplicationFailure
	}
	if pbstrMessage != nil {
		*pbstrMessage = s.Message
	}
	return vss.CodeOf(err)
}

func (c *components) FreeWriterStatus() vss.HResult {
	return vss.CodeOf(c.bc.FreeWriterStatus(background))
}

func (c *components) GetWriterComponentsCount(pcComponents *uint32) vss.HResult {
	return count(pcComponents, c.bc.GetWriterComponentsCount)
}

func (c *components) GetWriterComponents(iWriter uint32, ppWriter *IVssWriterComponents) vss.HResult {
	if ppWriter == nil {
		return vss.E_INVALIDARG
	}
	*ppWriter = nil
	w, err := c.bc.GetWriterComponents(background, index(iWriter))
	if err == nil {
		*ppWriter = &writerComponents{w: w}
	}
	return vss.CodeOf(err)
}

func named(instance, writer vss.ID, ct vss.ComponentType, path, name string) requester.Component {
	return requester.Component{InstanceID: instance, WriterID: writer, Type: ct, LogicalPath: path, Name: name}
}

func (c *components) AddComponent(instanceId, writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string) vss.HResult {
	return vss.CodeOf(c.bc.AddComponent(background, named(instanceId, writerId, ct, wszLogicalPath, wszComponentName)))
}

func (c *components) SetBackupSucceeded(instanceId, writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bSucceded bool) vss.HResult {
	return vss.CodeOf(c.bc.SetBackupSucceeded(background, named(instanceId, writerId, ct, wszLogicalPath, wszComponentName), bSucceded))
}

func (c *components) SetBackupOptions(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszBackupOptions string) vss.HResult {
	return vss.CodeOf(c.bc.SetBackupOptions(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), wszBackupOptions))
}

func (c *components) SetPreviousBackupStamp(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszPreviousBackupStamp string) vss.HResult {
	return vss.CodeOf(c.bc.SetPreviousBackupStamp(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), wszPreviousBackupStamp))
}

func (c *components) SetSelectedForRestore(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bSelectedForRestore bool) vss.HResult {
	return vss.CodeOf(c.bc.SetSelectedForRestore(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), bSelectedForRestore))
}

func (c *components) SetSelectedForRestoreEx(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bSelectedForRestore bool, instanceId vss.ID) vss.HResult {
	return vss.CodeOf(c.bc.SetSelectedForRestoreEx(background, named(instanceId, writerId, ct, wszLogicalPath, wszComponentName), bSelectedForRestore))
}

func (c *components) SetRestoreOptions(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszRestoreOptions string) vss.HResult {
	return vss.CodeOf(c.bc.SetRestoreOptions(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), wszRestoreOptions))
}

func (c *components) SetAdditionalRestores(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bAdditionalRestores bool) vss.HResult {
	return vss.CodeOf(c.bc.SetAdditionalRestores(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), bAdditionalRestores))
}

func (c *components) AddAlternativeLocationMapping(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszPath, wszFilespec string, bRecursive bool, wszDestination string) vss.HResult {
	return vss.CodeOf(c.bc.AddAlternativeLocationMapping(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), wszPath, wszFilespec, bRecursive, wszDestination))
}

func (c *components) AddRestoreSubcomponent(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszSubComponentLogicalPath, wszSubComponentName string, bRepair bool) vss.HResult {
	return vss.CodeOf(c.bc.AddRestoreSubcomponent(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), wszSubComponentLogicalPath, wszSubComponentName, bRepair))
}

func (c *components) SetFileRestoreStatus(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, s vss.FileRestoreStatus) vss.HResult {
	return vss.CodeOf(c.bc.SetFileRestoreStatus(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), s))
}

func (c *components) AddNewTarget(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszPath, wszFileName string, bRecursive bool, wszAlternatePath string) vss.HResult {
	return vss.CodeOf(c.bc.AddNewTarget(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), wszPath, wszFileName, bRecursive, wszAlternatePath))
}

func (c *components) SetRangesFilePath(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, iPartialFile uint32, wszRangesFile string) vss.HResult {
	return vss.CodeOf(c.bc.SetRangesFilePath(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), index(iPartialFile), wszRangesFile))
}

func (c *components) SetAuthoritativeRestore(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, bAuth bool) vss.HResult {
	return vss.CodeOf(c.bc.SetAuthoritativeRestore(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), bAuth))
}

func (c *components) SetRollForward(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName string, rollType vss.RollForwardType, wszRollForwardPoint string) vss.HResult {
	return vss.CodeOf(c.bc.SetRollForward(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), rollType, wszRollForwardPoint))
}

func (c *components) SetRestoreName(writerId vss.ID, ct vss.ComponentType, wszLogicalPath, wszComponentName, wszRestoreName string) vss.HResult {
	return vss.CodeOf(c.bc.SetRestoreName(background, named(vss.GUIDNull, writerId, ct, wszLogicalPath, wszComponentName), wszRestoreName))
}
