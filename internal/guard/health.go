package guard

import "fmt"

// sickness is what the probes say about the instances of one side.
type sickness struct {
	failed, all int
	stayed      bool // one stays failed after its restart
	message     string
}

func examine(l Limits, list []Instance) sickness {
	s := sickness{all: len(list)}
	for _, i := range list {
		if i.Failed < l.FailedProbes {
			continue
		}
		s.failed++
		s.message = i.Name + ": " + i.Message
		s.stayed = s.stayed || i.Restarts > 0 && !i.Starting
	}
	return s
}

func (s sickness) majority() bool { return s.failed > 0 && 2*s.failed > s.all }

// health: so many consecutive failed probes of a majority of next's instances, or of one that stays failed after its
// restart. Stable shows the same when a majority of its own fails; beside a single one of next, one of its own is enough.
func health(l Limits, h History) Verdict {
	next, stable := examine(l, h.Next), examine(l, h.Stable)
	if !next.majority() && !next.stayed {
		return Verdict{Kind: Calm}
	}
	what := fmt.Sprintf("%d of %d instances of next failed %d health checks in a row (%s)", next.failed, next.all,
		l.FailedProbes, next.message)
	if stable.majority() || !next.majority() && stable.stayed {
		return Verdict{Hold, "health", what + fmt.Sprintf("; so did %d of %d of stable: a common cause", stable.failed, stable.all)}
	}
	return Verdict{RollBack, "health", what}
}

// crashLoop: an instance of next that was started again and again since the rollout began, and none of stable was.
func crashLoop(l Limits, h History) Verdict {
	looping := func(list []Instance) (Instance, bool) {
		for _, i := range list {
			if l.CrashLoop > 0 && i.Restarts >= l.CrashLoop {
				return i, true
			}
		}
		return Instance{}, false
	}
	next, found := looping(h.Next)
	if !found {
		return Verdict{Kind: Calm}
	}
	what := fmt.Sprintf("%s of next ended %d times by itself (%s)", next.Name, next.Restarts, next.Message)
	if stable, too := looping(h.Stable); too {
		return Verdict{Hold, "crash loop", what + fmt.Sprintf("; so did %s of stable, %d times: a common cause", stable.Name, stable.Restarts)}
	}
	return Verdict{RollBack, "crash loop", what}
}

// critical: a critical check answered 5xx twice in a row, and stable answers it.
func critical(_ Limits, h History) Verdict {
	verdict := Verdict{Kind: Calm}
	for _, c := range h.Critical {
		if !c.StableFails {
			return Verdict{RollBack, "critical", fmt.Sprintf("the critical check %s failed twice in a row: %s", c.Name, c.Message)}
		}
		verdict = Verdict{Hold, "critical", fmt.Sprintf("the critical check %s fails on both releases: a common cause", c.Name)}
	}
	return verdict
}
