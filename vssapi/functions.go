package vssapi

import (
	"github.com/umbra-vss/umbra/document"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// CreateVssExamineWriterMetadata reads a saved Writer Metadata Document.
func CreateVssExamineWriterMetadata(bstrXML string, ppMetadata *IVssExamineWriterMetadata) vss.HResult {
	if ppMetadata == nil {
		return vss.E_INVALIDARG
	}
	*ppMetadata = nil
	m, err := document.ExamineWriterMetadata([]byte(bstrXML))
	if err == nil {
		*ppMetadata = &examine{m: m}
	}
	return vss.CodeOf(err)
}

// IsVolumeSnapshotted says whether there are copies of a volume here, and what
// they forbid on it.
func IsVolumeSnapshotted(pwszVolumeName string, pbSnapshotsPresent *bool, plSnapshotCompatibility *vss.SnapshotCompatibility) vss.HResult {
	if pbSnapshotsPresent == nil || plSnapshotCompatibility == nil {
		return vss.E_INVALIDARG
	}
	h := requester.NewHost(where())
	defer h.Close()
	present, compatibility, err := h.IsVolumeSnapshotted(background, pwszVolumeName)
	put(plSnapshotCompatibility, compatibility, err)
	return put(pbSnapshotsPresent, present, err)
}

// ShouldBlockRevert says whether a writer objects to reverting a volume.
func ShouldBlockRevert(pwszVolumeName string, pbBlock *bool) vss.HResult {
	if pbBlock == nil {
		return vss.E_INVALIDARG
	}
	h := requester.NewHost(where())
	defer h.Close()
	block, err := h.ShouldBlockRevert(background, pwszVolumeName)
	return put(pbBlock, block, err)
}

// VssFreeSnapshotProperties empties what GetSnapshotProperties filled; nil is
// ignored.
func VssFreeSnapshotProperties(pProp *vss.SnapshotProp) {
	if pProp != nil {
		*pProp = vss.SnapshotProp{}
	}
}
