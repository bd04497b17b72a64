package measure

import (
	"encoding/json"
	"reflect"
	"sync"
	"testing"
	"time"
)

// What was stored before draws were counted is read as before, and a tick without draws is written as then.
func TestTicksWithoutDrawsAreReadAndWrittenAsBefore(t *testing.T) {
	const old = `{"boot":"b","n":7,"at":"2026-01-02T03:04:05Z","series":[{"app":"shop","environment":"production","role":"web","rollout":"rol_1",` +
		`"release":"rel_a","side":"next","weight":500,"endpoint":"GET /","requests":3,"errors":1,"unserved":1,"latency":[[700,2]]}]}`
	var tick Tick
	if err := json.Unmarshal([]byte(old), &tick); err != nil {
		t.Fatal(err)
	}
	s := tick.Series[0]
	if s.Drawn != 0 || s.Units != nil || s.Placebo != nil || s.Cold || s.Requests != 3 || s.Latency.Count() != 2 {
		t.Errorf("%+v", s)
	}
	if again, err := json.Marshal(tick); err != nil || string(again) != old {
		t.Errorf("written as %s, %v", again, err)
	}
}

// Units that counted nothing are not the same as none.
func TestUnitsKeepTheirKind(t *testing.T) {
	latency := &Histogram{}
	latency.AddN(time.Second, 3)
	for _, s := range []Series{
		{},
		{Units: &Units{}},
		{Drawn: 4, Cold: true, Units: &Units{Errors: 2, Latency: latency}, Placebo: &Units{Drawn: 1, Errors: 1, Latency: latency}},
	} {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Series
		if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, s) {
			t.Errorf("%s is read as %+v, %v", raw, back, err)
		}
	}
}

// Many goroutines count while one takes: nothing is lost and nothing is counted twice.
func TestUnitRecorderCountsEachOnce(t *testing.T) {
	const workers, each = 8, 5_000
	var r UnitRecorder
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range each {
				r.Draw()
				r.Fail()
				r.First(BucketOf(time.Duration(i)*time.Microsecond - 1)) // the first has none
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	var sum Units
	sum.Latency = &Histogram{}
	take := func() {
		u := r.Take()
		sum.Drawn, sum.Errors = sum.Drawn+u.Drawn, sum.Errors+u.Errors
		sum.Latency.Merge(u.Latency)
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		take()
	}
	if n := int64(workers * each); sum.Drawn != n || sum.Errors != n || sum.Latency.Count() != n-workers {
		t.Errorf("%d draws, %d errors, %d latencies", sum.Drawn, sum.Errors, sum.Latency.Count())
	}
	if r.Take() != (Units{}) {
		t.Error("it is not empty afterwards")
	}
}
