package judge

import "math"

// mark is what one metric had counted at a moment.
type mark struct {
	clock, at              int64 // seconds of the rollout, and of the wall clock for display
	next, stable           Total
	failedNext, failedStab int64   // units
	share                  float64 // Σ w × failed units: how many of them next's design expects
}

// windows remembers what was counted at some earlier moments, the nearer the closer together: a window is all since one of
// them.
type windows struct {
	now   mark
	marks []mark
	limit int
}

// note keeps the present as a mark, before a tick is added.
func (w *windows) note(clock, at int64) {
	if n := len(w.marks); n > 0 && clock <= w.marks[n-1].clock {
		return
	}
	if len(w.marks) >= w.limit {
		w.thin(clock)
	}
	w.now.clock, w.now.at = clock, at
	w.marks = append(w.marks, w.now)
}

// thin drops the mark that is missed least: whose neighbours lie closest for their age.
func (w *windows) thin(clock int64) {
	drop, least := 1, math.Inf(1)
	for i := 1; i < len(w.marks)-1; i++ {
		before, after := w.marks[i-1].clock, w.marks[i+1].clock
		if gap := float64(after-before) / float64(clock-before); gap < least {
			drop, least = i, gap
		}
	}
	w.marks = append(w.marks[:drop], w.marks[drop+1:]...)
}

// add counts one stratum.
func (w *windows) add(weight int, next, stable Total, failedNext, failedStable int64) {
	n := &w.now
	n.next.Requests += next.Requests
	n.next.Errors += next.Errors
	n.stable.Requests += stable.Requests
	n.stable.Errors += stable.Errors
	n.failedNext += failedNext
	n.failedStab += failedStable
	n.share += float64(weight) / whole * float64(failedNext+failedStable)
}

// window is what was counted since a moment.
type window struct {
	since        int64 // seconds of the wall clock
	whole        bool  // it is all there is
	next, stable Total
}

// excess is how much more often next's requests failed.
func (w window) excess() float64 { return rate(w.next) - rate(w.stable) }

func rate(t Total) float64 {
	if t.Requests <= 0 {
		return 0
	}
	return float64(t.Errors) / float64(t.Requests)
}

// best is the window that explains the evidence best: since when the failures' split between next and stable is the most
// unlikely for its design, by the likelihood ratio of a binomial. It is for people and for the floor; no promise rests on it.
func (w *windows) best() window {
	found, most := window{next: w.now.next, stable: w.now.stable, whole: true}, -1.0
	for i, m := range w.marks {
		k := float64(w.now.failedNext - m.failedNext + w.now.failedStab - m.failedStab)
		kNext := float64(w.now.failedNext - m.failedNext)
		expected := w.now.share - m.share
		score := 0.0
		if kNext > expected {
			score = kNext * math.Log(kNext/expected)
			if k > kNext {
				score += (k - kNext) * math.Log((k-kNext)/(k-expected))
			}
		}
		if score >= most { // of two that say the same, the later one
			most = score
			found = window{since: m.at, whole: i == 0, next: less(w.now.next, m.next), stable: less(w.now.stable, m.stable)}
		}
	}
	return found
}

func less(a, b Total) Total { return Total{a.Requests - b.Requests, a.Errors - b.Errors} }
