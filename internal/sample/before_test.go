package sample

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// The past is told by its worst minutes, of those with enough requests to tell one by.
func TestBefore(t *testing.T) {
	b, start := NewBook(), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	n := int64(0)
	serve := func(second int, requests, errors int64, took time.Duration) {
		n++
		b.Add(measure.Tick{Boot: "b", N: n, At: start.Add(time.Duration(second) * time.Second), Series: []measure.Series{
			{App: "shop", Environment: domain.Production, Release: "rel_1", Requests: requests, Errors: errors, Latency: at(took, requests)}}})
	}
	all := []Span{{start, start.Add(10 * time.Minute)}}
	if got := b.Before("shop", domain.Production, "rel_1", all); got != nil {
		t.Errorf("of nothing: %+v", got)
	}
	serve(10, 20, 4, 50*time.Millisecond)
	got := b.Before("shop", domain.Production, "rel_1", all)
	if got == nil || got.Requests != 20 || got.Errors != 4 || got.WorstErrors != 0.2 || measure.Bucket(got.WorstLatency) != measure.Bucket(50*time.Millisecond) {
		t.Errorf("of one quiet minute: %+v", got)
	}
	for second := 60; second < 300; second++ {
		errors, took := int64(0), 20*time.Millisecond
		switch {
		case second >= 120 && second < 125:
			errors = 6 // 30 of 600
		case second >= 180 && second < 190:
			took = 80 * time.Millisecond // a sixth of a minute
		}
		serve(second, 10, errors, took)
	}
	got = b.Before("shop", domain.Production, "rel_1", all)
	if got.Requests != 20+2400 || got.Errors != 4+30 || got.WorstErrors != 0.05 || measure.Bucket(got.WorstLatency) != measure.Bucket(80*time.Millisecond) {
		t.Errorf("%+v", got)
	}
	calm := []Span{{start.Add(59 * time.Second), start.Add(119 * time.Second)}, {start.Add(239 * time.Second), start.Add(299 * time.Second)}}
	if got := b.Before("shop", domain.Production, "rel_1", calm); got.Requests != 1200 || got.WorstErrors != 0 || got.WorstLatency > 21*time.Millisecond {
		t.Errorf("of the calm minutes: %+v", got)
	}
	if got := b.Before("shop", domain.Production, "rel_2", all); got != nil {
		t.Errorf("of another release: %+v", got)
	}
}
