package sample

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
)

var strict = judge.Config{Alpha: 0.001, Beta: 0.05, Ratio: 1.25, Floor: 0.001, Margin: 1.2, Grain: 5 * time.Millisecond, Minutes: 15}

// at is a histogram of so many requests that took so long.
func at(took time.Duration, n int64) *measure.Histogram {
	h := &measure.Histogram{}
	h.AddN(took, n)
	return h
}

// series is one of a rollout at 5 %.
func ofRollout(side domain.Side, change func(*measure.Series)) measure.Series {
	s := measure.Series{App: "shop", Environment: domain.Production, Role: "web", Rollout: "rol_1", Release: "rel_" + string(side), Side: side, Weight: 500}
	change(&s)
	return s
}

// What a judge hears of a tick, in each way of splitting.
func TestTickOf(t *testing.T) {
	const ms = time.Millisecond
	noon := time.Date(2026, 11, 1, 12, 0, 0, 123_456_789, time.FixedZone("", 3600))
	for _, c := range []struct {
		name   string
		series []measure.Series
		want   []judge.Stratum
	}{
		{"by visitor", []measure.Series{
			ofRollout(domain.Stable, func(s *measure.Series) {
				s.Requests, s.Errors, s.Latency, s.Drawn, s.Cold = 190, 3, at(20*ms, 190), 40, true
				s.Units = &measure.Units{Errors: 1, Latency: at(20*ms, 39)}
				s.Placebo = &measure.Units{Drawn: 2, Errors: 1, Latency: at(20*ms, 2)}
			}),
			ofRollout(domain.Stable, func(s *measure.Series) {
				s.Endpoint, s.Requests, s.Errors, s.Latency, s.Units = "GET /cart", 30, 2, at(20*ms, 30), &measure.Units{Errors: 1, Latency: at(20*ms, 4)}
			}),
			ofRollout(domain.Stable, func(s *measure.Series) {
				s.Segment, s.Requests, s.Errors, s.Latency, s.Units = "plan=pro", 11, 1, at(20*ms, 11), &measure.Units{}
			}),
			ofRollout(domain.Next, func(s *measure.Series) {
				s.Requests, s.Latency, s.Drawn, s.Units = 10, at(25*ms, 10), 2, &measure.Units{Latency: at(25*ms, 2)}
			}),
		}, []judge.Stratum{{Role: "web", Weight: 500, Cold: true,
			Next: judge.Side{Requests: 10, Drawn: 2, Latency: at(25*ms, 2)},
			Stable: judge.Side{Requests: 190, Errors: 3, Drawn: 40, Failed: 1, Latency: at(20*ms, 39), Parts: []judge.Part{
				{Name: "GET /cart", Requests: 30, Errors: 2, Failed: 1, Latency: at(20*ms, 4)},
				{Name: "plan=pro", Segment: true, Requests: 11, Errors: 1}}},
			Placebo: judge.Side{Drawn: 2, Failed: 1, Latency: at(20*ms, 2)}}}},
		{"by request", []measure.Series{
			ofRollout(domain.Stable, func(s *measure.Series) {
				s.Requests, s.Errors, s.Latency, s.Drawn, s.Placebo = 950, 2, at(20*ms, 950), 951, &measure.Units{Drawn: 47, Latency: at(20*ms, 47)}
			}),
			ofRollout(domain.Next, func(s *measure.Series) { s.Requests, s.Errors, s.Latency, s.Drawn = 49, 1, at(20*ms, 48), 50 }),
			ofRollout(domain.Next, func(s *measure.Series) { s.Endpoint, s.Requests, s.Errors, s.Latency = "GET /", 9, 1, at(20*ms, 8) }),
		}, []judge.Stratum{{Role: "web", Weight: 500,
			Next: judge.Side{Requests: 49, Errors: 1, Drawn: 50, Failed: 1, Latency: at(20*ms, 48),
				Parts: []judge.Part{{Name: "GET /", Requests: 9, Errors: 1, Failed: 1, Latency: at(20*ms, 8)}}},
			Stable:  judge.Side{Requests: 950, Errors: 2, Drawn: 951, Failed: 2, Latency: at(20*ms, 950)},
			Placebo: judge.Side{Drawn: 47, Latency: at(20*ms, 47)}}}},
		{"the weight changes, and what was drawn before goes on", []measure.Series{
			ofRollout(domain.Stable, func(s *measure.Series) { s.Weight, s.Requests, s.Drawn = 2500, 75, 75 }),
			ofRollout(domain.Next, func(s *measure.Series) { s.Weight, s.Requests, s.Drawn = 2500, 25, 25 }),
			ofRollout(domain.Stable, func(s *measure.Series) { s.Requests = 4 }),
			ofRollout(domain.Next, func(s *measure.Series) { s.Requests = 1 }),
		}, []judge.Stratum{
			{Role: "web", Weight: 500, Next: judge.Side{Requests: 1}, Stable: judge.Side{Requests: 4}},
			{Role: "web", Weight: 2500, Next: judge.Side{Requests: 25, Drawn: 25}, Stable: judge.Side{Requests: 75, Drawn: 75}}}},
		{"two roles, and a route that was put again", []measure.Series{
			ofRollout(domain.Next, func(s *measure.Series) { s.Requests, s.Errors, s.Drawn, s.Latency = 5, 1, 5, at(ms, 5) }),
			ofRollout(domain.Next, func(s *measure.Series) { s.Requests, s.Errors, s.Drawn, s.Latency = 6, 1, 6, at(ms, 6) }),
			ofRollout(domain.Next, func(s *measure.Series) { s.Role, s.Requests, s.Drawn = "api", 3, 3 }),
			ofRollout(domain.Next, func(s *measure.Series) { s.Segment, s.Requests = "a=b", 1 }),
			ofRollout(domain.Next, func(s *measure.Series) { s.Endpoint, s.Requests = "z", 1 }),
			ofRollout(domain.Next, func(s *measure.Series) { s.Endpoint, s.Requests, s.Errors = "z", 1, 1 }),
		}, []judge.Stratum{
			{Role: "api", Weight: 500, Next: judge.Side{Requests: 3, Drawn: 3}},
			{Role: "web", Weight: 500, Next: judge.Side{Requests: 11, Errors: 2, Drawn: 11, Failed: 2, Latency: at(ms, 11), Parts: []judge.Part{
				{Name: "z", Requests: 2, Errors: 1, Failed: 1}, {Name: "a=b", Segment: true, Requests: 1}}}}}},
		{"blue-green after the flip, and a first delivery", []measure.Series{
			ofRollout(domain.Next, func(s *measure.Series) { s.Weight, s.Requests, s.Errors, s.Latency = 10_000, 100, 1, at(ms, 99) }),
		}, []judge.Stratum{{Role: "web", Weight: 10_000, Next: judge.Side{Requests: 100, Errors: 1, Failed: 1, Latency: at(ms, 99)}}}},
		{"only draws: the requests are still open", []measure.Series{
			ofRollout(domain.Next, func(s *measure.Series) { s.Drawn, s.Units = 3, &measure.Units{} }),
		}, []judge.Stratum{{Role: "web", Weight: 500, Next: judge.Side{Drawn: 3}}}},
		{"before the first shift", []measure.Series{ofRollout(domain.Stable, func(s *measure.Series) { s.Weight, s.Requests = 0, 10 })}, nil},
		{"another rollout, and none", []measure.Series{
			ofRollout(domain.Next, func(s *measure.Series) { s.Rollout, s.Requests = "rol_2", 1 }),
			ofRollout(domain.Stable, func(s *measure.Series) { s.Rollout, s.Requests = "", 1 }),
		}, nil},
	} {
		got, some := TickOf(&measure.Tick{Boot: "b", N: 7, At: noon, Series: c.series}, "rol_1")
		if some != (c.want != nil) || !reflect.DeepEqual(got.Strata, c.want) {
			t.Errorf("%s: %+v\nwant %+v", c.name, got.Strata, c.want)
		}
		if some && (got.Boot != "b" || got.N != 7 || got.At != noon.UTC().Truncate(time.Millisecond)) {
			t.Errorf("%s: %s %d %s", c.name, got.Boot, got.N, got.At)
		}
		slices.Reverse(c.series) // the store lists them in another order
		if again, _ := TickOf(&measure.Tick{Boot: "b", N: 7, At: noon, Series: c.series}, "rol_1"); !reflect.DeepEqual(again, got) {
			t.Errorf("%s: the order matters: %+v\nwas %+v", c.name, again.Strata, got.Strata)
		}
	}
}

// busy is what a proxy counts of some rollouts in one second: one in twelve seconds is idle, and sometimes something fails.
func busy(boot string, n int64, rollouts []string, parts int) measure.Tick {
	t := measure.Tick{Boot: boot, N: n, At: time.Unix(1_800_000_000+n, 0).UTC()}
	for _, rollout := range rollouts {
		dice := rand.New(rand.NewPCG(uint64(n), uint64(len(boot)*1000)+uint64(rollout[len(rollout)-1])))
		if dice.IntN(12) == 0 {
			continue
		}
		for _, side := range []domain.Side{domain.Stable, domain.Next} {
			requests := int64(95)
			if side == domain.Next {
				requests = 5
			}
			total := ofRollout(side, func(s *measure.Series) {
				s.Rollout, s.App, s.Requests, s.Drawn, s.Latency = rollout, "app "+rollout, requests, requests, &measure.Histogram{}
				for range requests {
					s.Latency.Add(time.Duration(10+dice.ExpFloat64()*20) * time.Millisecond)
				}
				if dice.IntN(8) == 0 {
					s.Errors = 1
				}
			})
			t.Series = append(t.Series, total)
			for p := range parts {
				one := total
				one.Endpoint, one.Requests, one.Drawn = fmt.Sprintf("GET /%d", p), requests/int64(parts)+1, 0
				t.Series = append(t.Series, one)
			}
		}
	}
	return t
}

// known is all that the judges of a jury know.
func known(t testing.TB, j *Jury) map[string][]byte {
	t.Helper()
	j.mu.Lock()
	for _, s := range j.seats {
		s.changed = true
	}
	j.mu.Unlock()
	list, err := j.Checkpoints(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func seated(t testing.TB, j *Jury, rollout string, checkpoint []byte) {
	t.Helper()
	if err := j.Seat(rollout, strict, checkpoint); err != nil {
		t.Fatal(err)
	}
}

// However pages come, twice, overlapping, too late or out of order, each tick is heard once, and in order.
func TestTicksAreHeardOnce(t *testing.T) {
	const seconds = 200
	rollouts := []string{"rol_a", "rol_b"}
	var ticks []measure.Tick
	for n := range int64(seconds) {
		ticks = append(ticks, busy("one", n+1, rollouts, 2))
	}
	calm := NewJury()
	seated(t, calm, "rol_a", nil)
	seated(t, calm, "rol_b", nil)
	calm.Add(ticks)
	want := known(t, calm)
	for seed := range uint64(20) {
		dice := rand.New(rand.NewPCG(seed, 1))
		book, wild := NewBook(), NewJury()
		seated(t, wild, "rol_a", nil)
		seated(t, wild, "rol_b", nil)
		for heard := 0; heard < seconds; {
			from := max(0, heard-dice.IntN(10))
			to := min(seconds, heard+dice.IntN(5))
			wild.Add(book.Add(ticks[from:to]...))
			heard = max(heard, to)
			late := dice.IntN(heard + 1)
			wild.Add(book.Add(ticks[late:min(heard, late+3)]...)) // a page that was under way for long
			wild.Add(ticks[late:min(heard, late+3)])              // and one that nobody looked at
			seated(t, wild, "rol_a", nil)                         // a seated judge stays
		}
		if got := known(t, wild); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: another evidence", seed)
		}
	}
	if v, ok := calm.Verdict("rol_a"); !ok || v.Next.Requests == 0 || v.N == 0 || v.Boot != "one" {
		t.Errorf("%+v", v)
	}
	if _, ok := calm.Verdict("rol_c"); ok {
		t.Error("a verdict of nobody")
	}
}

// Idle seconds, seconds of others and seconds before the first shift are not stored or not replayed: they change nothing.
func TestIdleSecondsChangeNothing(t *testing.T) {
	all, some := NewJury(), NewJury()
	seated(t, all, "rol_a", nil)
	seated(t, some, "rol_a", nil)
	for n := range int64(600) {
		tick := busy("one", n+1, []string{"rol_a", "rol_z"}, 1)
		if n%5 == 0 {
			tick = measure.Tick{Boot: "one", N: n + 1, Series: []measure.Series{ofRollout(domain.Stable, func(s *measure.Series) { s.Weight, s.Requests, s.Errors = 0, 9, 9 })}}
		}
		all.Add([]measure.Tick{tick})
		if slices.ContainsFunc(tick.Series, func(s measure.Series) bool { return s.Rollout == "rol_a" && s.Weight > 0 }) {
			some.Add([]measure.Tick{tick})
		}
	}
	a, _ := all.Verdict("rol_a")
	b, _ := some.Verdict("rol_a")
	if !reflect.DeepEqual(known(t, all), known(t, some)) || !reflect.DeepEqual(a, b) {
		t.Error("an idle second counts")
	}
}

func TestCheckpoints(t *testing.T) {
	j := NewJury()
	var rollouts []string
	for i := range 40 {
		rollouts = append(rollouts, fmt.Sprintf("rol_%c", 'A'+i))
		seated(t, j, rollouts[i], nil)
	}
	collect := func() (n int) {
		for part := range 10 {
			list, err := j.Checkpoints(part, 10)
			if err != nil || len(list) > 12 {
				t.Fatalf("%d at once, %v", len(list), err)
			}
			n += len(list)
		}
		return n
	}
	if n := collect(); n != 40 { // also of those who heard nothing: they are seated
		t.Errorf("%d at first", n)
	}
	if n := collect(); n != 0 {
		t.Errorf("%d without a change", n)
	}
	j.Add([]measure.Tick{busy("one", 1, rollouts[:20], 1)})
	if n := collect(); n == 0 || n > 20 {
		t.Errorf("%d after a tick of twenty", n)
	}
	j.Leave(rollouts[0])
	if j.Seated(rollouts[0]) || !j.Seated(rollouts[1]) {
		t.Error("who left?")
	}
	// One who goes on knows what he knew; a checkpoint that does not fit seats nobody.
	was := known(t, j)[rollouts[1]]
	other := NewJury()
	seated(t, other, rollouts[1], was)
	if !bytes.Equal(known(t, other)[rollouts[1]], was) {
		t.Error("something was forgotten")
	}
	for name, bad := range map[string][]byte{"cut": was[:len(was)/2], "of a newer server": append([]byte{0xff}, was...)} {
		if err := other.Seat("rol_x", strict, bad); err == nil || other.Seated("rol_x") {
			t.Errorf("%s: %v", name, err)
		}
	}
	loose := strict
	loose.Alpha = 0.05
	if err := other.Seat("rol_x", loose, was); err == nil {
		t.Error("a checkpoint of another configuration")
	}
}

// BenchmarkJury is one second of a thousand rollouts with 4 endpoints each; the goal is less than a second on one core.
func BenchmarkJury(b *testing.B) {
	for _, parts := range []int{0, 4, 20} {
		b.Run(fmt.Sprintf("1000x%d", parts), func(b *testing.B) { benchmarkJury(b, parts) })
	}
}

func benchmarkJury(b *testing.B, parts int) {
	var rollouts []string
	for i := range 1000 {
		rollouts = append(rollouts, fmt.Sprintf("rol_%d", i))
	}
	var ticks []measure.Tick
	for n := range int64(30) {
		ticks = append(ticks, busy("one", n+1, rollouts, parts))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	j := NewJury()
	for _, r := range rollouts {
		seated(b, j, r, nil)
	}
	n := int64(0)
	second := func() {
		t := ticks[n%30]
		n++
		t.N = n
		j.Add([]measure.Tick{t})
	}
	for range 90 {
		second()
	}
	for b.Loop() {
		second()
		for _, r := range rollouts { // each is asked once a second
			if _, ok := j.Verdict(r); !ok {
				b.Fatal(r)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	size := 0
	for _, c := range known(b, j) {
		size += len(c)
	}
	runtime.KeepAlive(ticks)
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/1000/1024, "KB/rollout")
	b.ReportMetric(float64(size)/1000/1024, "KB/checkpoint")
}
