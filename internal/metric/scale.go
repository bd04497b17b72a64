package metric

import (
	"fmt"
	"slices"
	"strings"
)

// Scale says with what a query's number grows although nothing is better or worse: the power of each. A sum of rates grows
// with the traffic, a sum of gauges with the instances, a mean of gauges with neither.
type Scale struct {
	Requests  int
	Instances int
	Seconds   int // of the time that is looked at
	// Momentary says that it reads nothing but the present values of gauges.
	Momentary bool
	// Counters are the metrics that are read through rate or increase only: one that is not there counts nothing.
	Counters []string
}

// cumulative are the endings of what only grows: as a plain value it tells how old an instance is.
var cumulative = []string{"_total", "_count", "_sum", "_bucket"}

// Scale returns how the query's number grows. The error says why two releases cannot be compared by it.
func (q *Query) Scale() (Scale, error) {
	s, _, err := scaleOf(q.root)
	if err != nil {
		return s, err
	}
	if s.Requests < 0 || s.Requests > 1 || s.Instances < -1 || s.Instances > 1 || s.Seconds < -1 || s.Seconds > 0 {
		return s, fmt.Errorf("it grows with a power of the traffic")
	}
	all := selectors(q.root)
	s.Momentary = true
	for _, n := range all {
		plain := n.how == "last" && n.join != "quantile"
		s.Momentary = s.Momentary && plain
		if n.how != "last" && !slices.Contains(s.Counters, n.name) {
			s.Counters = append(s.Counters, n.name)
		}
	}
	for _, n := range all {
		if n.how == "last" {
			s.Counters = slices.DeleteFunc(s.Counters, func(name string) bool { return name == n.name })
		}
	}
	return s, nil
}

// scaleOf also reports whether a part is a number of the file, which is added to nothing that grows.
func scaleOf(n node) (s Scale, number bool, err error) {
	switch n := n.(type) {
	case constant:
		return s, true, nil
	case negative:
		return scaleOf(n.of)
	case selector:
		s, err = n.scale()
		return s, false, err
	case binary:
		a, an, err := scaleOf(n.a)
		if err != nil {
			return s, false, err
		}
		b, bn, err := scaleOf(n.b)
		if err != nil {
			return s, false, err
		}
		switch n.op {
		case '*':
			a.Requests, a.Instances, a.Seconds = a.Requests+b.Requests, a.Instances+b.Instances, a.Seconds+b.Seconds
		case '/':
			a.Requests, a.Instances, a.Seconds = a.Requests-b.Requests, a.Instances-b.Instances, a.Seconds-b.Seconds
		default:
			if a.Requests != b.Requests || a.Instances != b.Instances || a.Seconds != b.Seconds {
				return s, false, fmt.Errorf("it adds what grows with the traffic to what does not")
			}
		}
		return a, an && bn, nil
	}
	return s, false, fmt.Errorf("unknown part of a query: %T", n)
}

func (n selector) scale() (Scale, error) {
	switch {
	case n.join == "quantile":
		return Scale{}, nil
	case n.how == "last":
		if slices.ContainsFunc(cumulative, func(end string) bool { return strings.HasSuffix(n.name, end) }) {
			return Scale{}, fmt.Errorf("%s only grows: rate(%s) can be compared", n.name, n.name)
		}
		if n.join == "sum" {
			return Scale{Instances: 1}, nil
		}
		return Scale{}, nil
	}
	s := Scale{Requests: 1}
	if n.how == "rate" {
		s.Seconds = -1
	}
	if n.join != "sum" { // of one instance
		s.Instances = -1
	}
	return s, nil
}

func selectors(n node) []selector {
	switch n := n.(type) {
	case negative:
		return selectors(n.of)
	case selector:
		return []selector{n}
	case binary:
		return append(selectors(n.a), selectors(n.b)...)
	}
	return nil
}
