package measure

import (
	"encoding/json"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func durations(t *rapid.T, name string) []time.Duration {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "ns"))
	}), 0, 200).Draw(t, name)
}

func counted(list []time.Duration) *Histogram {
	h := &Histogram{}
	for _, d := range list {
		h.Add(d)
	}
	return h
}

func TestQuantileIsRightToOnePercent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := durations(t, "durations")
		if len(list) == 0 {
			return
		}
		h := counted(list)
		slices.Sort(list)
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		rank := 0
		for float64(rank+1) < q*float64(len(list)) {
			rank++
		}
		want, got := list[rank], h.Quantile(q)
		if want <= time.Microsecond {
			want = time.Microsecond
		}
		if r := float64(got) / float64(want); r < 1/Ratio || r > Ratio {
			t.Fatalf("quantile %f of %v is %s, want %s", q, list, got, want)
		}
	})
}

func TestMergeAndSubAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := durations(t, "a"), durations(t, "b")
		h := counted(a)
		h.Merge(counted(b))
		if !same(h, counted(append(slices.Clone(a), b...))) {
			t.Fatalf("merge of %v and %v is %v", a, b, h.Pairs())
		}
		h.Sub(counted(b))
		if !same(h, counted(a)) || h.Count() != int64(len(a)) {
			t.Fatalf("merge and sub of %v leave %v of %v", b, h.Pairs(), a)
		}
	})
}

func same(a, b *Histogram) bool {
	return slices.Equal(a.Pairs(), b.Pairs())
}

func TestShiftMultipliesByTheRatio(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := counted(durations(t, "durations"))
		k := rapid.IntRange(-50, 50).Draw(t, "k")
		s := h.Shift(k)
		if s.Count() != h.Count() {
			t.Fatalf("shift by %d changes the count from %d to %d", k, h.Count(), s.Count())
		}
		for i, p := range s.Pairs() {
			if i > 0 && p.Bucket <= s.Pairs()[i-1].Bucket || p.Bucket < 0 || p.Bucket >= Buckets {
				t.Fatalf("shift by %d gives %v", k, s.Pairs())
			}
		}
	})
	h := &Histogram{}
	h.AddN(100*time.Millisecond, 3)
	if got := float64(h.Shift(70).Quantile(0.5)) / float64(h.Quantile(0.5)); got < 1.99 || got > 2.02 {
		t.Errorf("70 buckets are a factor of %f, want about 2", got)
	}
}

func TestCountAbove(t *testing.T) {
	h := &Histogram{}
	h.AddN(time.Millisecond, 5)
	h.AddN(time.Second, 2)
	for d, want := range map[time.Duration]int64{0: 7, 500 * time.Millisecond: 2, 2 * time.Second: 0} {
		if got := h.CountAbove(d); got != want {
			t.Errorf("%d above %s, want %d", got, d, want)
		}
	}
}

func TestJSONIsPairsAndComesBack(t *testing.T) {
	h := &Histogram{}
	h.Add(time.Microsecond)
	h.AddN(time.Millisecond, 2)
	raw, err := json.Marshal(h)
	if err != nil || string(raw) != "[[0,1],[695,2]]" {
		t.Fatalf("%s, %v", raw, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		h := counted(durations(t, "durations"))
		raw, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var back Histogram
		if err := json.Unmarshal(raw, &back); err != nil || !same(h, &back) {
			t.Fatalf("%s comes back as %v, %v", raw, back.Pairs(), err)
		}
	})
	for _, bad := range []string{`{}`, `[[1]]x`, `[[5,1],[4,1]]`, `[[1,0]]`, `[[-1,1]]`, `[[99999,1]]`, `[[1,-2]]`} {
		if err := json.Unmarshal([]byte(bad), &Histogram{}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestSeriesRoundTrip(t *testing.T) {
	s := Series{App: "a", Requests: 3, Latency: counted([]time.Duration{time.Second})}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back Series
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(s, back) {
		t.Errorf("%+v comes back as %+v, %v", s, back, err)
	}
}

func TestRecorderCountsEachRequestOnce(t *testing.T) {
	var r Recorder
	const each, workers = 5_000, 8
	var all, sum = sync.WaitGroup{}, Counts{Latency: &Histogram{}}
	add := func(c Counts) {
		sum.Requests, sum.Errors, sum.Unserved = sum.Requests+c.Requests, sum.Errors+c.Errors, sum.Unserved+c.Unserved
		sum.Latency.Merge(c.Latency)
	}
	for w := range workers {
		all.Go(func() {
			for i := range each {
				r.Record(Outcome(i%3), time.Duration(i*w)*time.Microsecond)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		add(r.Take())
	}
	if sum.Requests != each*workers || sum.Latency.Count() != each*workers || sum.Errors != 3333*workers || sum.Unserved != 1666*workers {
		t.Errorf("counted %+v with %d latencies", sum, sum.Latency.Count())
	}
	if c := r.Take(); c.Requests != 0 || c.Latency != nil {
		t.Errorf("taken twice: %+v", c)
	}
}

func TestRecordWithoutAnAnswerHasNoLatency(t *testing.T) {
	var r Recorder
	r.Record(Unserved, -1)
	if c := r.Take(); c.Requests != 1 || c.Unserved != 1 || c.Errors != 1 || c.Latency != nil {
		t.Errorf("%+v", c)
	}
}

func BenchmarkRecord(b *testing.B) {
	var r Recorder
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Record(Served, 3*time.Millisecond)
		}
	})
}
