package lab

import (
	"github.com/belay-cd/belay/internal/judge"
)

// Visitors keep their release: each of them is drawn once, and makes many requests.
type Visitors struct {
	// Tail is how heavy the tail of the number of requests is: it falls like x^-Tail. Most is the most that one makes.
	Tail, Most float64
	// Prone is the share of visitors with a trouble of their own, Trouble the share of their requests that fails.
	Prone, Trouble float64
	// PerRequest counts every request as a draw of its own, which is wrong here: it shows what happens then.
	PerRequest bool
}

// horizon is for how many seconds at most one stays.
const horizon = 512

// visits is into how many moments the requests of one visitor are gathered.
const visits = 6

// guests are the visitors who are there.
type guests struct {
	Visitors
	dice
	mean  float64 // requests of one visitor
	at    int
	sides [2][horizon]moment // stable, next
}

// moment is what a second will bring.
type moment struct {
	requests, errors, failed int64
}

func newGuests(v Visitors, d dice) *guests {
	g := &guests{Visitors: v, dice: d}
	const sample = 20_000
	probe := newDice(1, 1)
	for range sample {
		g.mean += float64(int64(probe.heavy(v.Tail, v.Most))) / sample
	}
	return g
}

// second fills in one second: visitors come, and those who are there make requests.
func (g *guests) second(r *Rollout, now Weather, bad Effect, s *judge.Stratum) {
	n := g.poisson(r.world.Rate * now.Load / g.mean)
	next := r.dealer.take(n, now.Weight)
	for range next {
		g.come(&g.sides[1], now.Errors, bad)
	}
	for range n - next {
		g.come(&g.sides[0], now.Errors, Effect{})
	}
	g.fill(&s.Next, &g.sides[1], next)
	g.fill(&s.Stable, &g.sides[0], n-next)
	if r.world.Latency != nil {
		s.Next.Latency = r.painter.paint(r.world.Latency, s.Next.Drawn, now.Slower*bad.slower(), bad.Tail)
		s.Stable.Latency = r.painter.paint(r.world.Latency, s.Stable.Drawn, now.Slower, 0)
	}
	r.placebo(s)
	g.at = (g.at + 1) % horizon
}

func (g *guests) fill(s *judge.Side, side *[horizon]moment, drawn int64) {
	m := &side[g.at]
	s.Requests, s.Errors, s.Drawn, s.Failed = m.requests, m.errors, drawn, m.failed
	if g.PerRequest {
		s.Drawn, s.Failed = m.requests, m.errors
	}
	*m = moment{}
}

// come plans all that one visitor will do.
func (g *guests) come(side *[horizon]moment, errors float64, bad Effect) {
	requests := int64(g.heavy(g.Tail, g.Most))
	p := errors
	if g.Float64() < g.Prone {
		p = g.Trouble
	}
	p = bad.fails(p)
	at, failed := g.at, false
	for left := requests; left > 0; {
		now := min(left, (requests+visits-1)/visits)
		left -= now
		m := &side[at]
		m.requests += now
		if k := g.binomial(now, p); k > 0 {
			m.errors += k
			if !failed {
				m.failed++
				failed = true
			}
		}
		at = (at + 1 + int(g.Uint64()%60)) % horizon
	}
}
