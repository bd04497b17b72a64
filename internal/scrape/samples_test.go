package scrape

import (
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
)

var t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }

func id(release string, index int) domain.InstanceID {
	return domain.InstanceID{App: "shop", Environment: domain.Production, Release: release, Role: "web", Index: index}
}

func fill(t *testing.T, s *Samples, id domain.InstanceID, second int, list ...sample) {
	t.Helper()
	if err := s.add(id, at(second), list, false); err != nil {
		t.Fatal(err)
	}
}

func TestPointsByReleaseMatcherAndWindow(t *testing.T) {
	s := NewSamples(Limits{})
	for sec := 0; sec <= 60; sec += 5 {
		for _, release := range []string{"rel_a", "rel_b"} {
			fill(t, s, id(release, 0), sec,
				sample{"hits_total", map[string]string{"code": "200", "path": "/"}, float64(sec)},
				sample{"hits_total", map[string]string{"code": "500"}, 3},
				sample{"other", nil, 1})
		}
	}
	window := Window{at(10), at(30)}
	all := s.Points("hits_total", nil, window, "rel_a")
	if len(all) != 2 {
		t.Fatalf("%d series, want 2: %v", len(all), all)
	}
	for _, ser := range all {
		if len(ser.Points) != 5 || !ser.Points[0].At.Equal(at(10)) || !ser.Points[4].At.Equal(at(30)) {
			t.Errorf("%v: points %v", ser.Labels, ser.Points)
		}
		if ser.Instance.Release != "rel_a" {
			t.Errorf("a series of %s", ser.Instance.Release)
		}
	}
	if got := s.Points("hits_total", nil, window, ""); len(got) != 4 {
		t.Errorf("every release: %d series, want 4", len(got))
	}
	for _, c := range []struct {
		label, op, value string
		want             int
	}{
		{"code", "=", "500", 1}, {"code", "!=", "500", 1}, {"code", "=~", "[25]00", 2}, {"code", "=~", "00", 0},
		{"code", "!~", "2.*", 1}, {"path", "=", "", 1}, {"nope", "!=", "", 0},
	} {
		m, err := NewMatcher(c.label, c.op, c.value)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Points("hits_total", []Matcher{m}, window, "rel_a"); len(got) != c.want {
			t.Errorf("%s%s%q: %d series, want %d", c.label, c.op, c.value, len(got), c.want)
		}
	}
	for _, bad := range [][3]string{{"a", "=~", "("}, {"a", "<", "1"}} {
		if _, err := NewMatcher(bad[0], bad[1], bad[2]); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if got := s.Names("rel_b"); len(got) != 2 || got[0] != "hits_total" {
		t.Errorf("names: %v", got)
	}
}

// However values repeat, what comes out of the runs is what went in.
func TestRunsLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSamples(Limits{})
		values := rapid.SliceOfN(rapid.SampledFrom([]float64{0, 1, 1.5, math.NaN()}), 1, 400).Draw(t, "values")
		for i, v := range values {
			if err := s.add(id("rel_a", 0), at(5*i), []sample{{"x", nil, v}}, false); err != nil {
				t.Fatal(err)
			}
		}
		got := s.Points("x", nil, Window{t0, at(5 * len(values))}, "")
		if len(got) != 1 || len(got[0].Points) != len(values) {
			t.Fatalf("%d values in, out: %v", len(values), got)
		}
		for i, p := range got[0].Points {
			if !p.At.Equal(at(5*i)) || math.Float64bits(p.Value) != math.Float64bits(values[i]) {
				t.Fatalf("point %d: %v, want %v at %v", i, p, values[i], at(5*i))
			}
		}
	})
}

func TestHolesStayHoles(t *testing.T) {
	s := NewSamples(Limits{})
	for _, sec := range []int{0, 5, 10, 600, 605} {
		fill(t, s, id("rel_a", 0), sec, sample{"up", nil, 1})
	}
	if got := s.Points("up", nil, Window{at(60), at(500)}, ""); len(got) != 0 {
		t.Fatalf("points in a hole: %v", got)
	}
	if got := s.Points("up", nil, Window{at(0), at(605)}, ""); len(got[0].Points) != 5 {
		t.Fatalf("points: %v", got[0].Points)
	}
}

func TestOldSamplesAreForgotten(t *testing.T) {
	s := NewSamples(Limits{Keep: time.Hour})
	for sec := 0; sec < 7200; sec += 5 {
		fill(t, s, id("rel_a", 0), sec, sample{"constant", nil, 1}, sample{"changing", nil, float64(sec)})
	}
	s.forget(at(7200))
	for _, name := range []string{"constant", "changing"} {
		points := s.Points(name, nil, Window{at(0), at(7200)}, "")[0].Points
		// A run goes as a whole: up to maxRun samples more than asked for.
		if n := len(points); n < 720 || n > 720+maxRun {
			t.Errorf("%s: %d points for an hour", name, n)
		}
	}
	s.forget(at(20_000))
	if len(s.instances) != 0 || len(s.apps) != 0 {
		t.Errorf("left after all is old: %d instances, %d apps", len(s.instances), len(s.apps))
	}
}

func TestSeriesLimitsRefuseWholeScrapes(t *testing.T) {
	s := NewSamples(Limits{InstanceSeries: 3, AppSeries: 4})
	three := []sample{{"a", nil, 1}, {"b", nil, 1}, {"c", nil, 1}}
	fill(t, s, id("rel_a", 0), 0, three...)
	if err := s.add(id("rel_a", 0), at(5), []sample{{"a", nil, 2}, {"d", nil, 1}}, false); err == nil {
		t.Error("a fourth series of the instance was taken")
	}
	if got := s.Points("a", nil, Window{at(0), at(9)}, "")[0].Points; len(got) != 1 {
		t.Errorf("a refused scrape left points: %v", got)
	}
	if err := s.add(id("rel_a", 1), at(5), three, false); err == nil {
		t.Error("a fifth series of the app was taken")
	}
	other := id("rel_a", 0)
	other.App = "other"
	fill(t, s, other, 5, three...) // another app has room of its own
	if err := s.add(id("rel_a", 0), at(5), []sample{{MemoryBytes, nil, 2}}, true); err != nil {
		t.Errorf("belay's own sample was refused: %v", err)
	}
}

func TestTooManyChangesShortenTheHistory(t *testing.T) {
	s := NewSamples(Limits{Keep: time.Hour, AppChanges: 200})
	for sec := 0; sec < 3600; sec += 5 {
		fill(t, s, id("rel_a", 0), sec, sample{"x", nil, float64(sec)}, sample{"y", nil, float64(sec)})
	}
	if runs := s.apps["shop"].runs; runs > 200 {
		t.Errorf("%d changes kept, above 200", runs)
	}
	points := s.Points("x", nil, Window{at(0), at(3600)}, "")[0].Points
	if len(points) == 0 || !points[len(points)-1].At.Equal(at(3595)) {
		t.Errorf("the newest samples are gone: %v", points)
	}
}

func TestIncreaseAndRate(t *testing.T) {
	points := func(values ...float64) []Point {
		list := make([]Point, len(values))
		for i, v := range values {
			list[i] = Point{at(10 * i), v}
		}
		return list
	}
	for _, c := range []struct {
		name           string
		points         []Point
		increase, rate float64
		ok             bool
	}{
		{"none", nil, 0, 0, false},
		{"one", points(7), 0, 0, false},
		{"steady", points(0, 10, 20), 20, 1, true},
		{"restart", points(100, 110, 5, 15), 25, 25.0 / 30, true},
		{"restart to zero", points(100, 0, 10), 10, 0.5, true},
		{"idle", points(5, 5, 5), 0, 0, true},
		{"not a number", points(1, math.NaN(), 3), 0, 0, false},
		{"one moment", []Point{{t0, 1}, {t0, 2}}, 1, 0, false},
	} {
		rate, ok := Rate(c.points)
		if ok != c.ok || ok && math.Abs(rate-c.rate) > 1e-12 {
			t.Errorf("%s: rate %v %v, want %v %v", c.name, rate, ok, c.rate, c.ok)
		}
		if inc, ok := Increase(c.points); ok && math.Abs(inc-c.increase) > 1e-12 {
			t.Errorf("%s: increase %v, want %v", c.name, inc, c.increase)
		}
	}
}

// A counter that restarts at any moments grew by the sum of its parts, and never shrank.
func TestIncreaseSurvivesRestarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(1, 50), 2, 40).Draw(t, "steps")
		points := []Point{{at(0), 0}}
		value, want := 0, 0
		for i, step := range steps {
			// A restart is seen only where the new count is below the old one; so is it in Prometheus.
			if value > step && rapid.Bool().Draw(t, "restart "+strconv.Itoa(i)) {
				value = 0
			}
			value += step
			want += step
			points = append(points, Point{at(5 * (i + 1)), float64(value)})
		}
		if got, ok := Increase(points); !ok || got != float64(want) {
			t.Fatalf("increase %v %v, want %d: %v", got, ok, want, points)
		}
	})
}
