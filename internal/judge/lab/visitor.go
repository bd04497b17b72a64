package lab

import (
	"math"

	"github.com/belay-cd/belay/internal/judge"
)

// Visitors are drawn once and keep their draw: whoever is below the weight is next's. Each makes many requests.
type Visitors struct {
	// Tail is how heavy the tail of the number of requests is: it falls like x^-Tail. Most is the most that one makes.
	Tail, Most float64
	// Prone is the share of visitors with a trouble of their own, Trouble the share of their requests that fails.
	Prone, Trouble float64
	// PerRequest counts every request as a draw of its own, which is wrong here: it shows what happens then.
	PerRequest bool
}

// A visitor's requests are gathered in a few visits, with breaks of up to a minute.
const (
	visits  = 6
	longest = 60
)

// guests are the visitors who are there.
type guests struct {
	Visitors
	dice
	mean float64 // requests of one visitor
	at   int
	ring [longest + 1][]guest // by the second of their next visit
	side [2]judge.Side        // stable, next
}

// guest is one visitor.
type guest struct {
	draw       float64 // 0 … 1
	left, each int64   // requests to come, and of each visit
	prone      bool
	failed     bool
}

func newGuests(v Visitors, d dice) *guests { return &guests{Visitors: v, dice: d, mean: v.mean()} }

// mean is how many requests a visitor makes on average: the sum of the chances of at least 1, 2, 3 and so on.
func (v Visitors) mean() float64 {
	sum := 0.0
	for k := 1.0; k <= v.Most; k++ {
		sum += math.Pow(k, -v.Tail)
	}
	return sum
}

// visitors make so many requests on average.
func visitors(mean float64) *Visitors {
	v := &Visitors{Most: 500}
	low, high := 0.5, 20.0
	for range 50 {
		if v.Tail = (low + high) / 2; v.mean() > mean {
			low = v.Tail
		} else {
			high = v.Tail
		}
	}
	return v
}

// gather fills in what so many seconds bring together.
func (g *guests) gather(r *Rollout, seconds int, bad Effect, s *judge.Stratum) {
	g.side = [2]judge.Side{}
	slower := 1.0
	for range seconds {
		now := r.look(1)
		g.second(r, now, bad)
		s.Weight, slower = now.Weight, now.Slower
	}
	if r.world.Latency != nil {
		g.side[0].Latency = r.painter.paint(r.world.Latency, g.side[0].Drawn, slower, 0)
		g.side[1].Latency = r.painter.paint(r.world.Latency, g.side[1].Drawn, slower*bad.slower(), bad.Tail)
	}
	if g.PerRequest {
		for i := range g.side {
			g.side[i].Drawn, g.side[i].Failed = g.side[i].Requests, g.side[i].Errors
		}
	}
	s.Stable, s.Next = g.side[0], g.side[1]
}

// second is one second: visitors come, and those who are there make requests.
func (g *guests) second(r *Rollout, now Weather, bad Effect) {
	n := g.poisson(r.world.Rate * now.Load / g.mean)
	next := r.dealer.take(n, now.Weight)
	g.side[1].Drawn += next
	g.side[0].Drawn += n - next
	w := float64(now.Weight) / full
	for i := range n {
		u := g.Float64()
		if i < next {
			u *= w
		} else {
			u = w + u*(1-w)
		}
		requests := int64(g.heavy(g.Tail, g.Most))
		g.visit(guest{draw: u, left: requests, each: (requests + visits - 1) / visits, prone: g.Float64() < g.Prone}, now, bad)
	}
	here := g.ring[g.at]
	g.ring[g.at] = nil
	for _, one := range here {
		g.visit(one, now, bad)
	}
	g.ring[g.at] = here[:0] // nobody comes back within the same second
	g.at = (g.at + 1) % len(g.ring)
}

// visit lets one visitor make requests, and come back later for the rest.
func (g *guests) visit(one guest, now Weather, bad Effect) {
	p, side := now.Errors, &g.side[0]
	if one.prone {
		p = g.Trouble
	}
	if one.draw*full < float64(now.Weight) {
		p, side = bad.fails(p), &g.side[1]
	}
	n := min(one.left, one.each)
	one.left -= n
	side.Requests += n
	if k := g.binomial(n, p); k > 0 {
		side.Errors += k
		if !one.failed {
			side.Failed++
			one.failed = true
		}
	}
	if one.left > 0 {
		at := (g.at + 1 + int(g.Uint64()%longest)) % len(g.ring)
		g.ring[at] = append(g.ring[at], one)
	}
}
