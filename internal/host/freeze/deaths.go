package freeze

import (
	"github.com/umbra-vss/umbra/internal/failpoint"
	"github.com/umbra-vss/umbra/internal/host/freeze/internal/wire"
)

// guardDeaths are the failpoints of the guard. They are armed in the daemon,
// with "kill", and the guard dies at them.
var guardDeaths = func() map[*failpoint.Point]uint32 {
	out := map[*failpoint.Point]uint32{}
	for name, place := range wire.Deaths {
		out[failpoint.New(name)] = place
	}
	return out
}()

// guardDeath is where the next guard is to die.
func guardDeath() uint32 {
	for p, place := range guardDeaths {
		if p.Kills() {
			return place
		}
	}
	return wire.DieNowhere
}
