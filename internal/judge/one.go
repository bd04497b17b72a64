package judge

import "math"

// moreOdds are the alternatives of a bet without a control: how many times the odds of the tolerated share.
var moreOdds = [...]float64{1.3, 1.6, 2, 3, 5, 10, 30, 100}

var evenOdds = even(len(moreOdds))

// bernoulli is a bet on one release alone, that more than the share p0 of its requests is bad:
//
//	ln e_q = k ln(q/p0) + (n−k) ln((1−q)/(1−p0)),   q > p0
//
// Its expectation is at most 1 only while each request's chance is at most p0, whatever came before. An outage that is not
// the release's breaks that, so it blames nobody where there is a control.
type bernoulli struct {
	bad, good [len(moreOdds)]float64
}

func newBernoulli(p0 float64) bernoulli {
	var b bernoulli
	p0 = min(max(p0, 1e-9), 0.999)
	for j, r := range moreOdds {
		q := p0 * r / (1 - p0 + p0*r)
		b.bad[j] = math.Log(q / p0)
		b.good[j] = math.Log((1 - q) / (1 - p0))
	}
	return b
}

// bet multiplies the bets with k bad ones of n, none by more than exp(most). A bet that wins less is still a bet.
func (b *bernoulli) bet(logs []float64, k, n int64, most float64) {
	good := float64(max(n-k, 0))
	for j := range logs {
		logs[j] += min(float64(k)*b.bad[j]+good*b.good[j], most)
	}
}

// mostAtOnce is ln of what a bet without a control may win in one tick: so much that half a minute in which everything fails
// is enough, and less is not. Requests of one second share its fate, a database that restarts, say, and are not as many
// witnesses.
const mostAtOnce = 0.35

// most is the error rate that holds next: the limit, or what stable had in its worst minute before and is tolerated of next
// beside it. An app that always fails more often than the limit is not held for that.
func (c Config) most() float64 {
	if c.Before == nil {
		return c.Limit
	}
	worst := c.Before.WorstErrors
	return max(c.Limit, c.Ratio*worst, worst+c.Floor)
}

// limit watches an absolute error rate. It is a CUSUM: no alternative falls below its start, so that a good past does not make
// it deaf, and none rises much above what it takes, so that it lets go soon. It promises no rate of false alarms and blames
// nobody: it holds.
type limit struct {
	bernoulli
	logs [len(moreOdds)]float64
}

func (l *limit) add(t Total, needed float64) {
	l.bet(l.logs[:], t.Errors, t.Requests, math.Inf(1))
	for j := range l.logs {
		l.logs[j] = min(max(l.logs[j], 0), needed+5)
	}
}

// total is the logarithm of the mean of the alternatives.
func (l *limit) total() float64 { return sumLog(l.logs[:]) - math.Log(float64(len(l.logs))) }

// past is the comparison with what stable served before, for ticks in which all traffic was next's.
type past struct {
	errorsBet, latencyBet bernoulli
	slow                  int // latencies above this bucket are slow; 0 leaves latency out
	errors, latency       capital
	next                  Total
	slowed, timed         int64
}

// usual is the share of latencies above the p95 of a release that is no slower.
const usual = 0.05

// add adds a stratum in which all draws were next's.
func (p *past) add(s *Side, cold bool, minute int64, planned int) {
	p.next.Requests += s.Requests
	p.next.Errors += s.Errors
	p.errors.begin(minute, planned, evenOdds)
	p.errorsBet.bet(p.errors.logs, s.Errors, s.Requests, mostAtOnce)
	if p.slow == 0 || cold {
		return
	}
	timed, slowed := int64(0), int64(0)
	for _, pair := range s.Latency.Pairs() {
		timed += pair.Count
		if int(pair.Bucket) > p.slow {
			slowed += pair.Count
		}
	}
	p.timed += timed
	p.slowed += slowed
	p.latency.begin(minute, planned, evenOdds)
	p.latencyBet.bet(p.latency.logs, slowed, timed, mostAtOnce)
}

// total is ln E of the comparison with history, half on each.
func (p *past) total(planned int) float64 {
	return addLog(p.errors.total(planned), p.latency.total(planned)) - math.Ln2
}
