package suite

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	// timedRuns is how many runs the time of a unit is the median of.
	timedRuns = 5
	// overhead is what a unit costs beside its tests: a process, a package to link, a file to load.
	overhead = 20 * time.Millisecond
	// splitSteps bounds the search for a better split than the first one.
	splitSteps = 200_000
)

// unit is what one part of a level takes as a whole: a Go package, or a file of tests.
type unit struct {
	name   string
	weight time.Duration
}

// split shares units out to n parts so that the longest part is as short as can be found. Every unit is in exactly one
// part. The first try gives the longest unit to the part that has least, and so on; then others are tried, as long as that
// is cheap. With few units the result is the best there is.
func split(units []unit, n int) [][]unit {
	units = slices.Clone(units)
	slices.SortFunc(units, func(a, b unit) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.name, b.name))
	})
	s := &splitter{units: units, loads: make([]time.Duration, n), counts: make([]int, n), at: make([]int, len(units)),
		longest: math.MaxInt64, bound: bound(units, n), left: max(splitSteps/n, len(units)+1)}
	s.place(0, 0)
	parts := make([][]unit, n)
	for i, u := range units {
		parts[s.best[i]] = append(parts[s.best[i]], u)
	}
	return parts
}

// bound is what no split into n parts can be shorter than: the longest unit, and an equal share of all.
func bound(units []unit, n int) time.Duration {
	longest, sum := time.Duration(0), time.Duration(0)
	for _, u := range units {
		longest, sum = max(longest, u.weight), sum+u.weight
	}
	return max(longest, (sum+time.Duration(n)-1)/time.Duration(n))
}

// splitter looks for a split, depth first.
type splitter struct {
	units    []unit
	loads    []time.Duration
	counts   []int
	at, best []int // the part of each unit
	longest  time.Duration
	bound    time.Duration
	left     int // steps
}

// place puts the units from i on; so far the longest part has long.
func (s *splitter) place(i int, long time.Duration) {
	if s.best != nil && (s.left == 0 || s.longest <= s.bound) {
		return
	}
	s.left = max(0, s.left-1)
	if i == len(s.units) {
		s.longest, s.best = long, slices.Clone(s.at)
		return
	}
	tried := time.Duration(-1)
	for _, part := range s.emptiest() {
		load := s.loads[part]
		if load == tried {
			continue // another part with as much in it: the same split with other names
		}
		tried = load
		if load+s.units[i].weight >= s.longest {
			return // so would be all that follow
		}
		s.loads[part] += s.units[i].weight
		s.counts[part]++
		s.at[i] = part
		s.place(i+1, max(long, s.loads[part]))
		s.loads[part] = load
		s.counts[part]--
	}
}

func (s *splitter) emptiest() []int {
	parts := make([]int, len(s.loads))
	for i := range parts {
		parts[i] = i
	}
	slices.SortFunc(parts, func(a, b int) int {
		return cmp.Or(cmp.Compare(s.loads[a], s.loads[b]), cmp.Compare(s.counts[a], s.counts[b]), cmp.Compare(a, b))
	})
	return parts
}

// weigh gives each unit the median of its times in the newest runs. One that no run knows gets the median of the others,
// so that it is neither free nor feared. Of names the unit that a test's own unit belongs to; "" when to none.
func weigh(names []string, runs []Run, of func(string) string) []unit {
	known := timings(runs, of)
	var times []time.Duration
	for _, name := range names {
		if t, ok := known[name]; ok {
			times = append(times, t)
		}
	}
	usual := time.Second
	if len(times) > 0 {
		usual = median(times)
	}
	units := make([]unit, len(names))
	for i, name := range names {
		weight, ok := known[name]
		if !ok {
			weight = usual
		}
		units[i] = unit{name, weight + overhead}
	}
	return units
}

// timings is how long each unit took, the median over the newest runs in which it was.
func timings(runs []Run, of func(string) string) map[string]time.Duration {
	names, times := map[string]string{}, map[string][]time.Duration{}
	for _, run := range runs[:min(len(runs), timedRuns)] {
		sums := map[string]time.Duration{}
		for _, c := range run.Cases {
			name, seen := names[c.Unit]
			if !seen {
				name = of(c.Unit)
				names[c.Unit] = name
			}
			if name != "" {
				sums[name] += c.Took
			}
		}
		for name, sum := range sums {
			times[name] = append(times[name], sum)
		}
	}
	known := map[string]time.Duration{}
	for name, list := range times {
		known[name] = median(list)
	}
	return known
}

// median is the middle of times, which it sorts; of two in the middle their mean.
func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	n := len(times)
	if n == 0 {
		return 0
	}
	return (times[(n-1)/2] + times[n/2]) / 2
}
