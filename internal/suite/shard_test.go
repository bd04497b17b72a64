package suite

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func longest(parts [][]unit) time.Duration {
	most := time.Duration(0)
	for _, part := range parts {
		sum := time.Duration(0)
		for _, u := range part {
			sum += u.weight
		}
		most = max(most, sum)
	}
	return most
}

// whole fails unless every unit is in exactly one part.
func whole(t interface{ Fatalf(string, ...any) }, units []unit, parts [][]unit) {
	var got, want []string
	for _, part := range parts {
		for _, u := range part {
			got = append(got, u.name)
		}
	}
	for _, u := range units {
		want = append(want, u.name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("the parts hold %v of %v", got, want)
	}
}

// optimum tries every split.
func optimum(units []unit, loads []time.Duration) time.Duration {
	if len(units) == 0 {
		return slices.Max(loads)
	}
	best := time.Duration(math.MaxInt64)
	for i := range loads {
		loads[i] += units[0].weight
		best = min(best, optimum(units[1:], loads))
		loads[i] -= units[0].weight
		if loads[i] == 0 {
			break // the other empty parts are the same
		}
	}
	return best
}

func TestSplitIsWithin15PercentOfTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "parts")
		weights := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 9).Draw(t, "weights")
		var units []unit
		for i, w := range weights {
			units = append(units, unit{fmt.Sprint(i), time.Duration(w) * time.Second})
		}
		parts := split(units, n)
		whole(t, units, parts)
		if got, best := longest(parts), optimum(units, make([]time.Duration, n)); float64(got) > 1.15*float64(best) {
			t.Fatalf("%s, the best is %s", got, best)
		}
	})
}

func TestSplitWhereLongestFirstIsWorst(t *testing.T) {
	var units []unit
	for i, w := range []int{7, 7, 6, 6, 5, 5, 4, 4, 4} {
		units = append(units, unit{fmt.Sprint(i), time.Duration(w)})
	}
	if got := longest(split(units, 4)); got != 12 {
		t.Errorf("%d, the best is 12", got)
	}
}

// logNormal are realistic times: most are short, a few are very long.
func logNormal(t *rapid.T, n int) []unit {
	units := make([]unit, n)
	for i := range units {
		// a sum of uniform numbers is near enough to a normal one, and can be drawn and shrunk
		x := -6.0
		for range 12 {
			x += rapid.Float64Range(0, 1).Draw(t, "x")
		}
		units[i] = unit{fmt.Sprint(i), time.Duration(math.Exp(1.2*x) * float64(80*time.Millisecond))}
	}
	return units
}

func TestSplitOfManyTestsIsNearTheBound(t *testing.T) {
	for _, n := range []int{20, 60, 2000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			seeds := rapid.Custom(func(t *rapid.T) []unit { return logNormal(t, n) })
			for seed := range 8 {
				units := seeds.Example(seed)
				parts := split(units, 4)
				whole(t, units, parts)
				if got, least := longest(parts), bound(units, 4); float64(got) > 1.15*float64(least) {
					t.Errorf("%s, no split is shorter than %s", got, least)
				}
			}
		})
	}
}

func runOf(times map[string]time.Duration) Run {
	var r Run
	for name, took := range times {
		r.Cases = append(r.Cases, Case{Name: name + "/1", Unit: name, State: CasePassed, Took: took / 4}, Case{Name: name + "/2", Unit: name, State: CasePassed, Took: took - took/4})
	}
	return r
}

func TestTimesFollowTheNewestRuns(t *testing.T) {
	same := func(s string) string { return s }
	second := time.Second
	runs := []Run{
		runOf(map[string]time.Duration{"a": 9 * second, "b": 2 * second}), // one slow run of a is no trend
		runOf(map[string]time.Duration{"a": 4 * second, "b": 2 * second}),
		runOf(map[string]time.Duration{"a": 4 * second, "b": 4 * second}),
		runOf(map[string]time.Duration{"a": 3 * second}),
		runOf(map[string]time.Duration{"a": 3 * second}),
		runOf(map[string]time.Duration{"a": 100 * second, "b": 100 * second}), // too old
	}
	got := weigh([]string{"a", "b", "new"}, runs, same)
	for i, want := range []time.Duration{4 * second, 2 * second, 3 * second} {
		if got[i].weight != want+overhead {
			t.Errorf("%s weighs %s, not %s", got[i].name, got[i].weight, want)
		}
	}
	for _, u := range weigh([]string{"a", "b"}, nil, same) {
		if u.weight != second+overhead {
			t.Errorf("%+v", u)
		}
	}
}

func TestUnitsThatCostNothingAreSpread(t *testing.T) {
	var names []string
	run := Run{}
	for i := range 40 {
		names = append(names, fmt.Sprint(i))
		run.Cases = append(run.Cases, Case{Name: "t", Unit: fmt.Sprint(i), State: CasePassed})
	}
	for _, part := range split(weigh(names, []Run{run}, func(s string) string { return s }), 4) {
		if len(part) != 10 {
			t.Errorf("%d units in a part", len(part))
		}
	}
}
