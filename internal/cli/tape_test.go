package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/judge/lab"
	"github.com/belay-cd/belay/internal/web"
)

// made are n seconds of a rollout at 5 %, that begins at noon, with 300 requests a second.
func made(e lab.Effect, n int, weight int) []judge.Tick {
	w := lab.World{Rate: 300, Errors: 0.001, Weight: weight, Latency: lab.LogNormal(20*time.Millisecond, 80*time.Millisecond)}
	r := w.Begin(e, 7, 1)
	list := make([]judge.Tick, n)
	for i := range list {
		list[i] = r.Next()
		list[i].Boot, list[i].N = "b1", int64(i+1)
		list[i].At = time.Date(2026, 11, 23, 12, 0, i+1, 0, time.UTC)
		text, err := json.Marshal(list[i]) // what Next returns is used again
		if err == nil {
			list[i] = judge.Tick{}
			err = json.Unmarshal(text, &list[i])
		}
		if err != nil {
			panic(err)
		}
	}
	return list
}

// ticked are lines as explain --ticks --json prints them.
func ticked(c judge.Config, ticks []judge.Tick, see func(web.Replayed) error) error {
	j, held := judge.New(c), &c
	for _, t := range ticks {
		j.Tick(t)
		v := j.Verdict()
		line := web.Replayed{Rollout: "rol_1", Environment: domain.Production, Held: held, Tick: t, Decision: v.Decision, Metric: v.Metric,
			Evidence: v.Evidence, Needed: v.Needed, Proof: v.Proof}
		held = nil
		if err := see(line); err != nil {
			return err
		}
	}
	return nil
}

// recorded is a recording of ticks.
func recorded(t testing.TB, c judge.Config, ticks []judge.Tick) []byte {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	if err := ticked(c, ticks, func(line web.Replayed) error { return encoder.Encode(line) }); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Ticks are those of a release of which one request in five fails.
func (f *fake) Ticks(_ context.Context, app string, _ int, see func(web.Replayed) error) error {
	if err := f.known(app); err != nil {
		return err
	}
	if f.plays("no-ticks") {
		return domain.Errorf(domain.NotFound, "#142 moved no traffic: nothing was measured")
	}
	return ticked(defaultHeld().judge, made(lab.Effect{Fail: 0.2}, 30, 500), see)
}
