package suite

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/belay-cd/belay/internal/build/command"
)

// watched runs commands and adds up where they connect to.
type watched struct {
	runner command.Runner
	given  []string // the environment without what names the level's own services and roles

	mu      sync.Mutex
	blind   bool // of one command it is not known
	outside []string
}

// Run implements command.Runner.
func (w *watched) Run(ctx context.Context, c command.Cmd) error {
	reach := &command.Reach{}
	for _, pair := range c.Env {
		if !slices.Contains(w.given, pair) {
			reach.Own = append(reach.Own, pair)
		}
	}
	c.Reach = reach
	err := w.runner.Run(ctx, c)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blind = w.blind || !reach.Known
	for _, to := range reach.Outside {
		if !slices.Contains(w.outside, to) && len(w.outside) < 3 {
			w.outside = append(w.outside, to)
		}
	}
	return err
}

// once says why the result may not be used again; "" when all that it depends on is known.
func (w *watched) once(level Level) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.outside) > 0:
		return fmt.Sprintf("it reaches %s, which no hash covers", strings.Join(w.outside, ", "))
	case w.blind:
		return "this machine does not tell whether it reaches a network"
	case len(level.Start) > 0:
		return "what its roles reach is not watched"
	}
	return ""
}
