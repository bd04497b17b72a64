package judge

import (
	"slices"
	"strings"
)

// addParts adds a stratum to its endpoints and segments' values. The first twenty of each that appear are watched: which
// requests come does not depend on the draw, so the choice is fair. Those of one tick come in the order of their names.
func (j *Judge) addParts(s *Stratum) {
	var touched []*metric
	for side, parts := range [2][]Part{s.Next.Parts, s.Stable.Parts} {
		for i := range parts {
			p := &parts[i]
			m := j.byName[partName{p.Segment, p.Name}]
			if m == nil {
				m = newMetric(partName{p.Segment, p.Name}, true)
				j.byName[m.partName] = m
			}
			if m.now[0] == nil && m.now[1] == nil {
				touched = append(touched, m)
			}
			m.now[side] = p
		}
	}
	fresh := touched[:0:0]
	for _, m := range touched {
		if m.windows.marks == nil {
			fresh = append(fresh, m)
		}
	}
	slices.SortFunc(fresh, func(a, b *metric) int { return a.compare(b.partName) })
	for _, m := range fresh {
		if j.places(m.segment) == maxParts {
			delete(j.byName, m.partName)
			continue
		}
		j.parts = append(j.parts, m)
		m.windows.note(j.clock.now, j.at)
	}
	for _, m := range touched {
		if m.windows.marks != nil {
			j.add(m, s)
		}
		m.now = [2]*Part{}
	}
}

// compare orders endpoints before segments' values, and both by their names.
func (p partName) compare(o partName) int {
	switch {
	case p.segment == o.segment:
		return strings.Compare(p.name, o.name)
	case o.segment:
		return -1
	}
	return 1
}

// places is how many endpoints, or segments' values, are watched.
func (j *Judge) places(segment bool) int {
	n := 0
	for _, m := range j.parts {
		if m.segment == segment {
			n++
		}
	}
	return n
}
