package demo

import (
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// story is what happened, in sentences, and what of it must not be.
type story struct {
	sentences []string
	wrong     []string
}

func (s *story) tell(format string, args ...any) {
	s.sentences = append(s.sentences, fmt.Sprintf(format, args...))
}

func (s *story) must(ok bool, format string, args ...any) {
	if !ok {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

// judge looks at the traffic from the start of the good delivery to the end, as the visitors saw it.
func judge(first, good, bad release, all period) story {
	var s story
	goodPart := part(all, good.from, bad.from)
	badPart := part(all, bad.from, time.Now().Add(time.Hour))
	harm := badPart.of(bad.short())

	s.must(len(goodPart) > 0 && len(badPart) > 0, "there was no traffic")
	for _, r := range []release{first, good} {
		s.must(len(goodPart.of(r.short())) > 0, "no request of the second delivery was answered by %s: traffic did not move", r.short())
	}
	goodFailures := goodPart.failures()
	s.tell("%s and %s were delivered: %d of %s requests failed because of the deployments", first.short(), good.short(),
		len(goodFailures), domain.Thousands(int64(len(goodPart))))
	s.mustBeNone(goodFailures, "during the good delivery")

	failed := harm.failures()
	share := float64(len(failed)) / float64(max(1, len(harm)))
	s.must(len(harm) > 0, "no request reached %s: it could not be judged", bad.short())
	s.must(share >= wantedLeast && share <= wantedMost, "%s failed %.0f %% of its requests, about 30 %% are wanted", bad.short(), 100*share)
	if len(failed) > 0 {
		s.tell("%s failed %d of %s requests, %.0f %%: it was caught and rolled back, %.1f s from the first failed request to the last request it got",
			bad.short(), len(failed), domain.Thousands(int64(len(harm))), 100*share, harm.last().Sub(failed.first()).Seconds())
	}
	var others period
	for _, f := range badPart.failures() {
		if f.release != bad.short() {
			others = append(others, f)
		}
	}
	s.mustBeNone(others, "on releases other than the bad one")

	after := part(all, bad.to, time.Now().Add(time.Hour))
	back := after.of(good.short())
	s.must(len(after) > 0 && len(back) == len(after), "after the rollback %d of %d requests were answered by another release than %s",
		len(after)-len(back), len(after), good.short())
	s.tell("%s serves again: %d of %s requests failed since", good.short(), len(after.failures()), domain.Thousands(int64(len(after))))
	s.tell("%s requests served under traffic in all, %s failed, %d of them on the bad release", domain.Thousands(int64(len(all))),
		domain.Thousands(int64(len(all.failures()))), len(failed))
	return s
}

// mustBeNone names the first of failures that nobody may have seen.
func (s *story) mustBeNone(failures period, when string) {
	if len(failures) > 0 {
		f := failures[0]
		s.must(false, "%d requests failed %s; the first: %s, status %d, by %s, at %s", len(failures), when, f.what, f.status,
			f.release, f.begin.UTC().Format("15:04:05.000"))
	}
}

func part(all period, from, to time.Time) period {
	var p period
	for _, s := range all {
		if !s.begin.Before(from) && s.begin.Before(to) {
			p = append(p, s)
		}
	}
	return p
}
