package config

import (
	"slices"
	"time"
)

// Floors are times below which no file may go.
type Floors struct {
	Bake    time.Duration // of each hold in production
	Monitor time.Duration
}

// Raise returns the file with every time at least as long as the floors, and says as sentences what that changed.
func Raise(f *File, floors Floors) (*File, []string) {
	e := *f
	s := stricter{own: f, e: &e}
	raise := func(path string, value *Duration, floor time.Duration) {
		if value.D() < floor {
			s.say("%s: %s instead of %s", path, formatDuration(floor), *value)
			*value = Duration(floor)
		}
	}
	raise("monitor.for", &e.Monitor.For, floors.Monitor)
	raise("rollout.min_soak", &e.Rollout.MinSoak, floors.Bake)
	e.Rollout.Steps = slices.Clone(f.Rollout.Steps)
	for i, step := range e.Rollout.Steps {
		if step.For < floors.Bake {
			s.say("rollout.steps: %s for %s instead of %s", step.Weight, formatDuration(floors.Bake), formatDuration(step.For))
			e.Rollout.Steps[i].For = floors.Bake
		}
	}
	return &e, s.loosened
}
