package check

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// CriticalEvery is how often a critical check is repeated.
const CriticalEvery = 10 * time.Second

// Observation is one look of the critical prober at next.
type Observation struct {
	Result
	// Confirm is the second look, taken at once after a 5xx.
	Confirm *Result `json:"confirm,omitempty"`
	// Control is the same look at stable, taken when next was confirmed to fail and there is a stable to look at.
	Control *Result `json:"control,omitempty"`
	// Breach: next answered 5xx twice in a row, and stable, where there is one, did not.
	Breach bool `json:"breach,omitempty"`
	// Shared: both sides answer 5xx. Nobody is blamed; nothing should shift up.
	Shared bool `json:"shared,omitempty"`
	// Sentence says what was seen, for a person.
	Sentence string `json:"sentence"`
}

// Prober repeats the critical http checks for as long as next has traffic.
type Prober struct {
	// Do runs one check: (*Runner).One.
	Do func(ctx context.Context, c Check, target Target) Result
	// Every is the time between two looks; 0: CriticalEvery.
	Every time.Duration
}

// Watch looks at every critical http check of checks on its own clock, so that a slow one delays no other, and hands each
// observation to emit, which is never called concurrently. next and stable are asked before each look, so that they may
// change; stable reports false where there is none. Watch returns when ctx ends, after its last look has ended.
func (p *Prober) Watch(ctx context.Context, checks []Check, next func() Target, stable func() (Target, bool), emit func(Observation)) {
	var emitting sync.Mutex
	var watching sync.WaitGroup
	for _, c := range checks {
		if !c.Critical || c.HTTP == nil {
			continue
		}
		watching.Go(func() {
			every := p.Every
			if every <= 0 {
				every = CriticalEvery
			}
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				o := p.Look(ctx, c, next(), stable)
				if ctx.Err() != nil {
					return // cut off by the end, not by the app
				}
				emitting.Lock()
				emit(o)
				emitting.Unlock()
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	watching.Wait()
}

// Look takes one look, a second one at once when the first was a 5xx, and one at stable when both were.
func (p *Prober) Look(ctx context.Context, c Check, next Target, stable func() (Target, bool)) Observation {
	o := Observation{Result: p.Do(ctx, c, next)}
	o.Sentence = o.Message
	if !serverError(o.Result) {
		return o
	}
	again := p.Do(ctx, c, next)
	o.Confirm = &again
	if !serverError(again) {
		o.Sentence = fmt.Sprintf("%s answered %d once, then %s", c.Name, o.Status, outcome(again))
		return o
	}
	o.Sentence = fmt.Sprintf("critical endpoint %s answered %d and %d in a row: %s", c.Name, o.Status, again.Status, again.Message)
	if stable != nil {
		if target, ok := stable(); ok {
			control := p.Do(ctx, c, target)
			o.Control = &control
			if serverError(control) {
				o.Shared = true
				o.Sentence += fmt.Sprintf("; stable answers %d too", control.Status)
				return o
			}
			o.Sentence += fmt.Sprintf("; stable: %s", outcome(control))
		}
	}
	o.Breach = true
	return o
}

func serverError(r Result) bool {
	return r.State == Failed && r.Status >= http.StatusInternalServerError
}

func outcome(r Result) string {
	if r.Status > 0 {
		return strconv.Itoa(r.Status)
	}
	return r.Message
}
