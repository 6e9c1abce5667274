package freeze

import (
	"embed"
	"io/fs"
)

// The whole directory is embedded, not the program, so that the package
// compiles before the program has been built.
//
//go:embed guardbin
var guardbin embed.FS

// EmbeddedGuard returns the guard program that was built into this binary, or
// nil if there was none at build time.
func EmbeddedGuard() []byte {
	b, err := fs.ReadFile(guardbin, "guardbin/umbra-freeze-guard")
	if err != nil {
		return nil
	}
	return b
}
