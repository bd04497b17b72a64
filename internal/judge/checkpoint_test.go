package judge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/measure"
)

// anySide is a side with parts of which some are not seen by the other side.
func anySide(t *rapid.T, rate int64) Side {
	count := func(most int64) int64 { return rapid.Int64Range(0, most).Draw(t, "count") }
	latency := func() *measure.Histogram {
		if rapid.Bool().Draw(t, "unmeasured") {
			return nil
		}
		h := &measure.Histogram{}
		for range count(6) {
			h.AddN(time.Duration(1+count(1e9)), 1+count(rate))
		}
		return h
	}
	s := Side{Requests: count(rate), Errors: count(3), Drawn: count(rate), Failed: count(3), Latency: latency()}
	for range count(3) {
		name := rapid.SampledFrom([]string{"GET /", "GET /checkout", "plan=pro"}).Draw(t, "part")
		p := Part{Name: name, Segment: name == "plan=pro", Requests: count(rate), Errors: count(2), Failed: count(2), Latency: latency()}
		s.Parts = append(s.Parts, p)
	}
	return s
}

func anyTick(t *rapid.T) Tick {
	tick := Tick{Boot: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "boot"), N: rapid.Int64Range(0, 400).Draw(t, "n")}
	tick.At = moment.Add(time.Duration(tick.N) * time.Second)
	for range rapid.IntRange(0, 2).Draw(t, "strata") {
		tick.Strata = append(tick.Strata, Stratum{
			Role: rapid.SampledFrom([]string{"", "web"}).Draw(t, "role"), Weight: rapid.SampledFrom([]int{0, 500, 5000, whole}).Draw(t, "weight"),
			Cold: rapid.IntRange(0, 9).Draw(t, "cold") == 0, Next: anySide(t, 20), Stable: anySide(t, 100), Placebo: anySide(t, 5),
		})
	}
	return tick
}

// state is all that a judge holds, to the bit, but for what it can work out again.
func state(j *Judge) string {
	c := *j
	c.config.Before, c.designs, c.shift, c.order, c.byName = nil, nil, nil, nil, nil
	c.scratch, c.all, c.parts = scratch{}, nil, nil
	text := fmt.Sprintf("%+v", c)
	for _, m := range append([]*metric{j.all}, j.parts...) {
		c := *m
		c.latency.menu, c.latency.batches = nil, nil
		text += fmt.Sprintf("\n%+v", c)
		for _, b := range m.latency.batches {
			text += fmt.Sprintf("\n%s %d %d %v %v", b.role, b.weight, b.began, b.next.Pairs(), b.stable.Pairs())
		}
	}
	return text
}

func TestAJudgeThatIsResumedAtEveryTickIsTheSameToTheBit(t *testing.T) {
	c := defaults()
	c.Before = &Before{Requests: 1000, Errors: 3, WorstErrors: .004, WorstLatency: 80 * time.Millisecond}
	rapid.Check(t, func(t *rapid.T) {
		straight, resumed := New(c), New(c)
		for range rapid.IntRange(1, 40).Draw(t, "ticks") {
			tick := anyTick(t)
			if a, b := straight.Tick(tick), resumed.Tick(tick); a != b {
				t.Fatalf("tick %s %d: %v and %v", tick.Boot, tick.N, a, b)
			}
			checkpoint, err := resumed.Checkpoint()
			if err != nil {
				t.Fatal(err)
			}
			if resumed, err = Resume(c, checkpoint); err != nil {
				t.Fatal(err)
			}
			if a, b := state(straight), state(resumed); a != b {
				t.Fatalf("after tick %s %d\n%s\nis not\n%s", tick.Boot, tick.N, b, a)
			}
		}
		a, b := straight.Verdict(), resumed.Verdict()
		x, errX := json.Marshal(a)
		y, errY := json.Marshal(b)
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			t.Fatalf("\n%s\nis not\n%s", x, y)
		}
	})
}

// A damaged checkpoint is an error, or something that can be reckoned with; it never takes the daemon down.
func FuzzResume(f *testing.F) {
	j, d := New(defaults()), newDice(6)
	for n := range int64(90) {
		s := pair(500, d.side(25, .05, 30*time.Millisecond), d.side(100, .01, 30*time.Millisecond))
		s.Next.Parts = []Part{{Name: "GET /", Requests: 5, Latency: d.latencies(5, time.Second)}}
		j.Tick(second(n, s))
	}
	checkpoint, err := j.Checkpoint()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), byte(0), checkpoint)
	for at := 0; at < len(checkpoint); at += 7 {
		f.Add(uint16(at), byte(0xff), checkpoint)
	}
	f.Add(uint16(0), byte(0), checkpoint[:len(checkpoint)/2])
	f.Fuzz(func(t *testing.T, at uint16, flip byte, data []byte) {
		data = bytes.Clone(data)
		if len(data) > 0 {
			data[int(at)%len(data)] ^= flip
		}
		j, err := Resume(defaults(), data)
		if err != nil {
			return
		}
		s := pair(500, d.side(25, .05, 30*time.Millisecond), d.side(100, .01, 30*time.Millisecond))
		j.Tick(second(1000, s))
		if v := j.Verdict(); v.Sentence == "" {
			t.Fatal("no sentence")
		}
		if _, err := j.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestACheckpointIsSmall(t *testing.T) {
	j := New(defaults())
	fill(j, 3600)
	if len(j.parts) != 2*maxParts {
		t.Fatalf("%d parts", len(j.parts))
	}
	checkpoint, err := j.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes with %d parts", len(checkpoint), len(j.parts))
	if len(checkpoint) > 40_000 {
		t.Errorf("%d bytes", len(checkpoint))
	}
}

// fill gives a judge so many ticks with 40 parts and as many again that find no place.
func fill(j *Judge, ticks int64) {
	d := newDice(7)
	var variants [16]Tick
	for i := range variants {
		variants[i] = second(0, busy(d, 40))
	}
	for n := range ticks {
		tick := variants[n%16]
		tick.N, tick.At = n, moment.Add(time.Duration(n)*time.Second)
		j.Tick(tick)
	}
}

// busy is a stratum with endpoints and segments, so many of each.
func busy(d dice, parts int) Stratum {
	s := pair(500, d.side(25, .001, 50*time.Millisecond), d.side(475, .001, 50*time.Millisecond))
	s.Placebo = d.side(24, .001, 50*time.Millisecond)
	for i := range parts {
		for _, segment := range []bool{false, true} {
			name := "GET /" + string(rune('a'+i%26)) + string(rune('a'+i/26))
			s.Next.Parts = append(s.Next.Parts, d.part(name, segment, 25/float64(parts)))
			s.Stable.Parts = append(s.Stable.Parts, d.part(name, segment, 475/float64(parts)))
		}
	}
	return s
}

func (d dice) part(name string, segment bool, rate float64) Part {
	n := d.poisson(rate)
	return Part{Name: name, Segment: segment, Requests: n, Latency: d.latencies(n, 50*time.Millisecond)}
}
