// Package lab is where the judge is tried out: it makes the ticks of rollouts that never were, in worlds of every kind, so
// that it can be counted how often a release that is no worse is blamed, and how soon one that is worse is. It answers the
// same questions about one's own traffic before a release (see Forecast).
//
// It is pure: whoever calls it gives the seed, and the same seed makes the same rollouts.
package lab

import (
	"time"

	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
)

// World is what comes to an app, and how much of that fails without any release's fault.
type World struct {
	Name string
	// Rate is how many requests come in a second, Errors which share of them fails.
	Rate, Errors float64
	Weight       int // of next, in hundredths of a percent
	Deal         Deal
	// Weather changes all that over time, for both releases alike; nil is fair weather.
	Weather func(d dice) func(second int) Weather
	// Latency is how long requests take; nil leaves it out.
	Latency *Palette
	// Parts cut the requests by endpoint, and once more by the values of a segment; the shares of each add up to 1.
	Parts []Part
	// Visitors, when each of them is drawn once; nil where each request is.
	Visitors *Visitors
}

// Weather is what one second is like.
type Weather struct {
	Load   float64 // factor on the rate
	Errors float64 // the share of requests that fails
	Slower float64 // factor on all latencies
	Weight int
}

// Part is one endpoint or one value of a segment.
type Part struct {
	Name    string
	Segment bool
	Share   float64 // of the requests
	Errors  float64 // factor on the error rate
}

// Effect is what a release does to its requests. Effect{} does nothing: a good release.
type Effect struct {
	Name    string        `json:"name"`
	Errors  float64       `json:"errors,omitempty"`  // so many times as many fail; 0 is 1
	Fail    float64       `json:"fail,omitempty"`    // this share of the requests fails besides; 1 is all of them
	Latency float64       `json:"latency,omitempty"` // all take so many times as long; 0 is 1
	Tail    float64       `json:"tail,omitempty"`    // this share takes ten times as long
	Share   float64       `json:"share,omitempty"`   // only so many of the requests are hit: one endpoint; 0 is all of them
	Segment bool          `json:"segment,omitempty"` // what is hit is one value of a segment instead
	After   time.Duration `json:"after,omitempty"`   // it begins so late
}

// good reports whether the release is no worse.
func (e Effect) good() bool {
	return (e.Errors == 0 || e.Errors == 1) && e.Fail == 0 && (e.Latency == 0 || e.Latency == 1) && e.Tail == 0
}

// slow reports whether latency is what is worse.
func (e Effect) slow() bool { return e.Latency > 1 || e.Tail > 0 }

// fails is the share of next's requests that fail where p of stable's do.
func (e Effect) fails(p float64) float64 {
	if e.Errors > 0 {
		p = min(1, p*e.Errors)
	}
	return p + e.Fail*(1-p)
}

func (e Effect) slower() float64 {
	if e.Latency > 0 {
		return e.Latency
	}
	return 1
}

// Hit is the name of the part that an effect with a Share hits.
const Hit = "GET /hit"

// hitSegment is the same for a segment.
const hitSegment = "group=hit"

// partsOf are the parts of a world in which the effect has something to hit.
func (e Effect) partsOf(parts []Part) []Part {
	if e.Share <= 0 || e.Share >= 1 {
		return parts
	}
	hit, rest := Hit, "GET /rest"
	if e.Segment {
		hit, rest = hitSegment, "group=rest"
	}
	list := []Part{{hit, e.Segment, e.Share, 1}, {rest, e.Segment, 1 - e.Share, 1}}
	for _, p := range parts {
		if p.Segment != e.Segment {
			list = append(list, p)
		}
	}
	return list
}

// Rollout is one rollout in a world, second by second.
type Rollout struct {
	world   World
	effect  Effect
	dealer  dealer
	painter painter
	weather func(int) Weather
	first   []Part // the parts by which requests are made
	other   []Part // the parts to which they are dealt afterwards
	guests  *guests
	second  int
	pace    func(second int) int // how many seconds the next tick takes; nil: one
	lucky   bool                 // under Counter: the client with the rhythm meets next
	strata  [1]judge.Stratum
	sum     Counts
}

// Counts are what next has served since the rollout began.
type Counts struct{ Requests, Errors int64 }

// Begin begins a rollout. Every stream of a seed is another one.
func (w World) Begin(e Effect, seed, stream uint64) *Rollout {
	d := newDice(seed, stream)
	r := &Rollout{world: w, effect: e, dealer: dealer{dice: d, deal: w.Deal}, painter: painter{dice: d}}
	r.lucky = d.Float64()*full < float64(w.Weight)
	if w.Weather != nil {
		r.weather = w.Weather(d)
	}
	for _, p := range e.partsOf(w.Parts) {
		if p.Segment == e.Segment {
			r.first = append(r.first, p)
		} else {
			r.other = append(r.other, p)
		}
	}
	if w.Visitors != nil {
		r.guests = newGuests(*w.Visitors, d)
	}
	return r
}

// Next returns the next tick. It is overwritten by the next call.
func (r *Rollout) Next() judge.Tick {
	seconds := 1
	if r.pace != nil {
		seconds = r.pace(r.second)
	}
	bad := r.effect
	if time.Duration(r.second)*time.Second < bad.After {
		bad = Effect{Segment: bad.Segment}
	}
	s := &r.strata[0]
	*s = judge.Stratum{}
	if r.guests != nil {
		r.guests.gather(r, seconds, bad, s)
	} else {
		now := r.look(seconds)
		s.Weight = now.Weight
		n := r.dealer.poisson(r.world.Rate * now.Load)
		next := r.dealer.take(n, now.Weight)
		r.serve(&s.Next, next, now, bad, true)
		r.serve(&s.Stable, n-next, now, Effect{}, false)
	}
	if r.pace == nil { // else it is a forecast, and the placebo has nothing to say
		r.placebo(s)
	}
	r.sum.Requests += s.Next.Requests
	r.sum.Errors += s.Next.Errors
	return judge.Tick{Boot: "lab", N: int64(r.second), At: Start.Add(time.Duration(r.second) * time.Second), Strata: r.strata[:]}
}

// look is the weather of so many seconds together, all under one weight.
func (r *Rollout) look(seconds int) Weather {
	if r.weather == nil {
		r.second += seconds
		return Weather{float64(seconds), r.world.Errors, 1, r.world.Weight}
	}
	sum := Weather{}
	for range seconds {
		now := r.weather(r.second)
		sum.Load += now.Load
		sum.Errors += now.Load * now.Errors
		sum.Slower += now.Load * now.Slower
		sum.Weight = now.Weight
		r.second++
	}
	if sum.Load > 0 {
		sum.Errors, sum.Slower = sum.Errors/sum.Load, sum.Slower/sum.Load
	}
	return sum
}

// Served is what next has served up to now.
func (r *Rollout) Served() Counts { return r.sum }

// Start is when every rollout begins.
var Start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// serve fills in what one side did with n requests, each of which is a draw.
func (r *Rollout) serve(s *judge.Side, n int64, now Weather, bad Effect, next bool) {
	s.Requests, s.Drawn = n, n
	if r.world.Latency != nil {
		s.Latency = &measure.Histogram{}
	}
	left, share := n, 1.0
	for i, p := range r.first {
		of := left
		if i < len(r.first)-1 {
			of = r.dealer.binomial(left, p.Share/share)
		}
		left, share = left-of, share-p.Share
		hit := bad
		if bad.Share > 0 && p.Name != Hit && p.Name != hitSegment {
			hit = Effect{}
		}
		part := judge.Part{Name: p.Name, Segment: p.Segment, Requests: of}
		part.Errors = r.dealer.binomial(of, hit.fails(min(1, now.Errors*p.Errors)))
		part.Failed = part.Errors
		if r.world.Latency != nil {
			part.Latency = r.painter.paint(r.world.Latency, of, now.Slower*hit.slower(), hit.Tail)
			s.Latency.Merge(part.Latency)
		}
		s.Errors += part.Errors
		s.Parts = append(s.Parts, part)
	}
	if len(r.first) == 0 {
		s.Errors = r.failures(n, now, bad, next)
		if r.world.Latency != nil {
			s.Latency = r.painter.paint(r.world.Latency, n, now.Slower*bad.slower(), bad.Tail)
		}
	}
	s.Failed = s.Errors
	r.deal(s)
}

// failures are how many of n requests fail.
func (r *Rollout) failures(n int64, now Weather, bad Effect, next bool) int64 {
	if r.world.Deal != Counter {
		return r.dealer.binomial(n, bad.fails(now.Errors))
	}
	if next != r.lucky {
		return 0
	}
	share := float64(r.world.Weight) / full // the one client sends every 20th request, and its requests fail
	if !next {
		share = 1 - share
	}
	return r.dealer.binomial(n, min(1, now.Errors/share))
}

// deal cuts a side's requests by the other parts, blindly.
func (r *Rollout) deal(s *judge.Side) {
	n, k, share := s.Requests, s.Errors, 1.0
	for i, p := range r.other {
		of, failed := n, k
		if i < len(r.other)-1 {
			of = r.dealer.binomial(n, p.Share/share)
			failed = r.dealer.among(n, k, of)
		}
		n, k, share = n-of, k-failed, share-p.Share
		s.Parts = append(s.Parts, judge.Part{Name: p.Name, Segment: p.Segment, Requests: of, Errors: failed, Failed: failed})
	}
}

// placebo takes a slice of stable's draws as if they were a canary's.
func (r *Rollout) placebo(s *judge.Stratum) {
	n := r.dealer.binomial(s.Stable.Drawn, measure.PlaceboShare)
	s.Placebo = judge.Side{Requests: n, Drawn: n, Failed: r.dealer.among(s.Stable.Drawn, s.Stable.Failed, n)}
	s.Placebo.Errors = s.Placebo.Failed
	if s.Stable.Latency != nil {
		s.Placebo.Latency = r.pick(s.Stable.Latency, n)
	}
}

// pick takes n of the latencies blindly.
func (r *Rollout) pick(from *measure.Histogram, n int64) *measure.Histogram {
	h, all := &measure.Histogram{}, from.Count()
	for _, p := range from.Pairs() {
		if n == 0 {
			break
		}
		got := r.dealer.among(all, p.Count, n)
		if all, n = all-p.Count, n-got; got > 0 {
			h.AddN(middle(int(p.Bucket)), got)
		}
	}
	return h
}

// Seen is a tick as the fixed triggers see it.
func Seen(t judge.Tick) guard.Second {
	s := guard.Second{At: t.At}
	for i := range t.Strata {
		s.Weight = t.Strata[i].Weight
		s.Next, s.Stable = seen(&t.Strata[i].Next), seen(&t.Strata[i].Stable)
	}
	return s
}

func seen(s *judge.Side) guard.Side {
	side := guard.Side{Requests: s.Requests, Errors: s.Errors, Latency: s.Latency}
	for _, p := range s.Parts {
		side.Parts = append(side.Parts, guard.Part{Name: p.Name, Segment: p.Segment, Requests: p.Requests, Errors: p.Errors})
	}
	return side
}
