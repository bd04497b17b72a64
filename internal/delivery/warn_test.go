package delivery

import (
	"context"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
)

// paired plays what both releases tell: stable captures 4 a request, next what it is set to.
type paired struct {
	next  float64
	looks atomic.Int64
	panic bool
}

func (p *paired) Compare(_ context.Context, r *rollout.Rollout, _ *config.File, _, _ time.Time) ([]Compared, bool) {
	if p.panic {
		panic("a defect in a query")
	}
	if r.Record.Environment != domain.Production {
		return nil, true
	}
	n := p.looks.Add(1)
	if n%7 == 0 {
		return nil, false // too few requests
	}
	wave := 0.2 * math.Sin(float64(n)*2.4)
	block := func(next, stable float64) judge.Block {
		return judge.Block{Next: next + wave, Stable: stable - wave/3, NextOf: 500, StableOf: 9500}
	}
	return []Compared{
		{Name: "captured", Good: "up", Unit: "€", Per: "a request", Factor: 1, Block: block(p.next, 4)},
		{Name: "refunds", Good: "down", Factor: 1, Block: block(p.next, 4)},
		{Name: "drawn", Factor: 1, Block: block(p.next, 4)},
		{Name: "raw", Good: "up", Why: "not compared: raw_total only grows"},
	}, true
}

// comparedWorld is a world whose releases are compared for five minutes.
func comparedWorld(t *testing.T, p *paired, f func(t *testing.T, w *world)) {
	t.Helper()
	in(t, func(t *testing.T, w *world) {
		w.file = strings.NewReplacer("monitor: { for: 60s }", "monitor: { for: 5m, holdback: 5% }").Replace(belayYAML)
		w.life.end()
		w.metrics = p
		w.begin()
		w.done("a")
		f(t, w)
	})
}

// warnings are the events that warn.
func (w *world) warnings() (list []domain.Event) {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	for _, e := range w.disk.events {
		if e.Type == "rollout.warning" {
			list = append(list, e)
		}
	}
	return list
}

func TestAWorseMetricIsWarnedOfOnce(t *testing.T) {
	comparedWorld(t, &paired{next: 3}, func(t *testing.T, w *world) {
		d := w.done("b") // it is neither held nor taken back
		list := w.warnings()
		if len(list) != 1 {
			t.Fatalf("%d warnings: %v", len(list), list)
		}
		e := list[0]
		said, _ := e.Data["sentence"].(string)
		if e.By != "judge" || e.Delivery != d.Number || e.Environment != domain.Production || e.Data["metric"] != "captured" {
			t.Errorf("the event is %+v", e)
		}
		for _, part := range []string{"captured: 3", "€ a request on next, 4", "€ on stable, −2", "(95 % −", "): it does not roll back by itself"} {
			if !strings.Contains(said, part) {
				t.Errorf("%q lacks %q", said, part)
			}
		}
		if !strings.Contains(d.Outcome.Sentence, ". Warned of captured: 3") {
			t.Errorf("the outcome does not tell: %s", d.Outcome.Sentence)
		}
		notes := 0
		for _, row := range d.Stages {
			for _, n := range row.Notes {
				if n == said {
					notes++
				}
			}
		}
		if notes != 1 {
			t.Errorf("%d stages show it", notes)
		}
		x, err := w.life.s.Explain(t.Context(), "shop", d.Number)
		if err != nil || !strings.Contains(strings.Join(x.Lines, "\n"), "warning      captured: 3") {
			t.Errorf("explain does not tell: %v %v", x.Lines, err)
		}
		if d.Traffic == nil || len(d.Traffic.Metrics) != 4 {
			t.Fatalf("drawn: %+v", d.Traffic)
		}
		for _, m := range d.Traffic.Metrics {
			switch {
			case m.Metric == "raw" && m.Note == "", m.Metric != "raw" && (m.Blocks < config.WarnLeast || m.Low == nil),
				(m.Metric == "captured") != (m.Warning != ""):
				t.Errorf("%+v", m)
			}
		}
	})
}

func TestABetterOrEqualMetricIsNotWarnedOf(t *testing.T) {
	for _, next := range []float64{4, 3.9} { // 2.5 % are below the grain
		comparedWorld(t, &paired{next: next}, func(t *testing.T, w *world) {
			d := w.done("b")
			if list := w.warnings(); len(list) > 0 || strings.Contains(d.Outcome.Sentence, "Warned") {
				t.Errorf("at %v: %v %s", next, list, d.Outcome.Sentence)
			}
		})
	}
}

func TestAComparisonGoesOnAfterARestart(t *testing.T) {
	p := &paired{next: 3}
	comparedWorld(t, p, func(t *testing.T, w *world) {
		number := w.ship("b").Number
		began := p.looks.Load()
		w.until("twenty blocks", func() bool { return p.looks.Load() >= began+20 })
		w.life.end()
		time.Sleep(2 * time.Second)
		w.begin()
		w.until("warned", func() bool { return len(w.warnings()) > 0 || p.looks.Load() > began+80 })
		if looks := p.looks.Load() - began; len(w.warnings()) != 1 || looks > 45 {
			t.Errorf("%d warnings after %d blocks", len(w.warnings()), looks)
		}
		w.life.end()
		time.Sleep(2 * time.Second)
		w.begin()
		if d := w.await(number); d.State != domain.DoneState || len(w.warnings()) != 1 {
			t.Errorf("%s with %d warnings", d.State, len(w.warnings()))
		}
	})
}

func TestADefectInAComparisonEndsNothing(t *testing.T) {
	p := &paired{next: 4}
	comparedWorld(t, p, func(t *testing.T, w *world) {
		p.panic = true
		w.done("b")
	})
}
