package metric

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"time"
)

// Point is one sample of a series.
type Point struct {
	At    time.Time
	Value float64
}

// Matcher restricts a label of the series that a query reads.
type Matcher struct {
	Label, Value string
	Negated      bool
}

// Series is one labelled series of points, oldest first.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Samples is where a query's numbers come from: the points of every series of a metric that match, within the window
// that ends now. A window of 0 is the window of the step that asks.
type Samples interface {
	Range(name string, matchers []Matcher, window time.Duration) []Series
}

// Query is a parsed query, a small part of PromQL: rate, increase, sum, avg, max, min, quantile, label matchers,
// + - * / and numbers.
type Query struct {
	text  string
	root  node
	names []string
}

func (q *Query) String() string { return q.text }

// Metrics returns the names of the scraped metrics that the query reads, in the order in which they stand there.
func (q *Query) Metrics() []string { return append([]string(nil), q.names...) }

// Eval computes the query's number. Where a metric has no points the error wraps ErrNoData.
func (q *Query) Eval(s Samples) (float64, error) { return q.root.eval(s) }

type node interface {
	eval(s Samples) (float64, error)
}

type constant float64

func (c constant) eval(Samples) (float64, error) { return float64(c), nil }

type binary struct {
	op   byte
	a, b node
}

func (n binary) eval(s Samples) (float64, error) {
	a, err := n.a.eval(s)
	if err != nil {
		return 0, err
	}
	b, err := n.b.eval(s)
	if err != nil {
		return 0, err
	}
	return apply(string(n.op), a, b)
}

type negative struct{ of node }

func (n negative) eval(s Samples) (float64, error) {
	v, err := n.of.eval(s)
	return -v, err
}

// selector reads the series of one metric, each reduced to one number by how, and then together by join.
type selector struct {
	name     string
	matchers []Matcher
	window   time.Duration
	how      string // last, rate, increase
	join     string // sum, avg, max, min
	q        float64
}

func (n selector) values(s Samples) []float64 {
	var out []float64
	for _, series := range s.Range(n.name, n.matchers, n.window) {
		if v, ok := reduce(n.how, series.Points); ok {
			out = append(out, v)
		}
	}
	return out
}

func (n selector) eval(s Samples) (float64, error) {
	if n.join == "quantile" {
		return n.quantile(s)
	}
	values := n.values(s)
	if len(values) == 0 {
		return 0, fmt.Errorf("%s: %w", n.name, ErrNoData)
	}
	total := values[0]
	for _, v := range values[1:] {
		switch n.join {
		case "max":
			total = math.Max(total, v)
		case "min":
			total = math.Min(total, v)
		default:
			total += v
		}
	}
	if n.join == "avg" {
		total /= float64(len(values))
	}
	return total, nil
}

// reduce turns the points of one series into one number. A counter that falls was reset: it counts from zero again.
func reduce(how string, points []Point) (float64, bool) {
	if how == "last" {
		if len(points) == 0 {
			return 0, false
		}
		return points[len(points)-1].Value, true
	}
	if len(points) < 2 {
		return 0, false
	}
	grown := 0.0
	for i := 1; i < len(points); i++ {
		if d := points[i].Value - points[i-1].Value; d >= 0 {
			grown += d
		} else {
			grown += points[i].Value
		}
	}
	if how == "increase" {
		return grown, true
	}
	seconds := points[len(points)-1].At.Sub(points[0].At).Seconds()
	return grown / seconds, seconds > 0
}

// quantile reads the buckets of a histogram as they grew over the window and interpolates within the bucket, as
// Prometheus' histogram_quantile does.
func (n selector) quantile(s Samples) (float64, error) {
	counts := map[float64]float64{}
	for _, series := range s.Range(n.name+"_bucket", n.matchers, n.window) {
		le, err := strconv.ParseFloat(series.Labels["le"], 64)
		if grown, ok := reduce("increase", series.Points); ok && err == nil {
			counts[le] += grown
		}
	}
	bounds := make([]float64, 0, len(counts))
	for le := range counts {
		bounds = append(bounds, le)
	}
	sort.Float64s(bounds)
	if len(bounds) < 2 || counts[bounds[len(bounds)-1]] == 0 {
		return 0, fmt.Errorf("%s: %w", n.name, ErrNoData)
	}
	rank := n.q * counts[bounds[len(bounds)-1]]
	i := sort.Search(len(bounds), func(i int) bool { return counts[bounds[i]] >= rank })
	if i >= len(bounds)-1 && math.IsInf(bounds[len(bounds)-1], 1) {
		return bounds[len(bounds)-2], nil
	}
	lower, below := 0.0, 0.0
	if i > 0 {
		lower, below = bounds[i-1], counts[bounds[i-1]]
	}
	in := counts[bounds[i]] - below
	if in <= 0 {
		return bounds[i], nil
	}
	return lower + (bounds[i]-lower)*(rank-below)/in, nil
}
