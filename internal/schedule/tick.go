package schedule

import "time"

const (
	// recent is how old a tick may be that is made up for whatever came after it.
	recent = time.Minute
	// missedRuns is how many ticks that nobody was there for are each recorded. Those before them are only counted.
	missedRuns = 10
	// counted is up to where they are.
	counted = 10_000
)

// passed is what came due between two moments.
type passed struct {
	due    []time.Time // to run, in order: the newest of the old ones, and all recent ones
	missed []time.Time // too old, in order
	before int         // how many were missed before those; at most counted
	since  time.Time   // the first of them
}

func (p passed) empty() bool { return len(p.due) == 0 }

// last is the newest tick.
func (p passed) last() time.Time { return p.due[len(p.due)-1] }

// passedSince sorts the ticks after one moment and up to another.
func passedSince(s Schedule, after, now time.Time) passed {
	var p passed
	fresh := now.Add(-recent)
	if old := newestBefore(s, after, fresh, missedRuns+1); len(old) > 0 {
		p.missed, p.due = old[:len(old)-1], old[len(old)-1:]
		for t := s.Next(after); t.Before(old[0]) && p.before < counted; t = s.Next(t) {
			if p.before++; p.before == 1 {
				p.since = t
			}
		}
	}
	from := after
	if just := fresh.Add(-time.Nanosecond); from.Before(just) {
		from = just
	}
	for t := s.Next(from); !t.IsZero() && !t.After(now); t = s.Next(t) {
		p.due = append(p.due, t)
	}
	return p
}

// newestBefore returns at most n ticks after one moment and before another, the newest, in order. It looks backwards in
// steps that grow, because after a long silence a job of every minute has more ticks than anybody wants to count.
func newestBefore(s Schedule, after, before time.Time, n int) []time.Time {
	for span := time.Minute; ; span *= 2 {
		from := before.Add(-span)
		all := from.Before(after) || span > 1<<60
		if all {
			from = after
		}
		var found []time.Time
		for t := s.Next(from); !t.IsZero() && t.Before(before); t = s.Next(t) {
			found = append(found, t)
		}
		if all || len(found) >= n {
			return found[max(0, len(found)-n):]
		}
	}
}
