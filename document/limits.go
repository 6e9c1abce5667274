package document

import (
	"time"

	"github.com/umbra-vss/umbra/vss"
)

// Limits of a document. They bound what reading one can cost; nothing real
// comes near them.
const (
	// MaxSize is the largest document, and the largest bundle, in bytes.
	// Callers that read from a file or a peer stop there.
	MaxSize = 16 << 20
	// MaxSnapshots is the number of volumes in a set (requester.md 7).
	MaxSnapshots = 64
	// MaxTicket is the largest ticket, in bytes.
	MaxTicket = 64 << 10

	// MaxWriters is the number of writers in a document, and of writer metadata
	// documents in a bundle.
	MaxWriters = 128
	// MaxWriterMetadata is the largest writer metadata document, in bytes.
	MaxWriterMetadata = 4 << 20

	maxText          = 4096 // bytes of a name or path: PATH_MAX
	maxLUNs          = 256  // per volume
	maxExtents       = 65536
	maxIdentifiers   = 64
	maxInterconnects = 256
	maxAddress       = 1024 // bytes of an interconnect's port or address
	maxDevices       = 1024 // members of one filesystem

	// Of a document's components. Together they fit a document even if every
	// byte has to be escaped, beside a set with as many extents as may be.
	maxOpaque         = 64 << 10 // bytes of options, stamps, metadata, messages
	maxComponents     = 1024
	maxComponentItems = 16384   // subcomponents, targets, files
	maxComponentText  = 1 << 20 // bytes

	// Of a writer's metadata.
	maxMetadataComponents = 4096
	maxFileSets           = 16384
	maxDependencies       = 4096
	maxVolumes            = 1024
	maxIcon               = 64 << 10 // bytes
)

// Timestamps are written as dates, which have four digits for the year.
var (
	earliest = vss.Timestamp(0)
	latest   = vss.TimestampOf(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) - 1
)
