package schedule

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

const tenSeconds = "*/10 * * * * * UTC"

// told writes runs as text: the second of the tick, the release, the state and the message.
func told(runs []domain.JobRun) string {
	var b strings.Builder
	for _, r := range runs {
		fmt.Fprintf(&b, "%s %s %s %s\n", r.Tick.UTC().Format("15:04:05"), r.Release, r.State, r.Message)
	}
	return b.String()
}

func wantRuns(t *testing.T, w *world, want string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	var got []string
	for line := range strings.Lines(told(w.runs(tidy))) {
		got = append(got, strings.TrimSpace(line))
	}
	if strings.Join(got, "\n") != strings.Join(lines, "\n") {
		t.Errorf("the runs are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

// The time in a test begins at midnight UTC, 2000-01-01.
func TestEachTickOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.release("rel_1", tenSeconds, nil)
		w.own("rel_1")
		p := w.serve()
		defer p.stop()
		time.Sleep(35 * time.Second)
		wantRuns(t, w, `
			00:00:10 rel_1 done
			00:00:20 rel_1 done
			00:00:30 rel_1 done`)
		for _, r := range w.runs(tidy) {
			if w.starts(r.Tick) != 1 || !r.Started.Equal(r.Tick) || r.Ended.Sub(*r.Started) != time.Second {
				t.Errorf("%d starts: %+v", w.starts(r.Tick), r)
			}
		}
		status, err := p.Status(t.Context(), "shop", domain.Production)
		if err != nil || len(status) != 1 || status[0].Role != "tidy" || time.Until(status[0].Next) != 5*time.Second || status[0].Last.State != domain.JobDone {
			t.Errorf("status %+v, %v", status, err)
		}
		if want := "job.started 2000-01-01T00:00:10Z job.done 2000-01-01T00:00:10Z"; !strings.HasPrefix(strings.Join(w.events, " "), want) || w.retained != 3 {
			t.Errorf("events %q, tidied up %d times", w.events, w.retained)
		}
	})
}

// The process dies after each effect in turn, and another one comes: at once, and after half a minute.
func TestEachTickOnceWhateverDies(t *testing.T) {
	for _, away := range []time.Duration{100 * time.Millisecond, 25 * time.Second} {
		for crashAt, crashed := 1, true; crashed; crashAt++ {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.release("rel_1", tenSeconds, nil)
				w.own("rel_1")
				w.crashAt = crashAt
				p := w.serve()
				select {
				case <-p.ended:
				case <-time.After(35 * time.Second):
					p.stop()
				}
				w.set(func() { crashed, w.crashAt = w.down, 0 })
				time.Sleep(away)
				p = w.serve()
				time.Sleep(time.Minute - time.Since(time.Date(2000, 1, 1, 0, 0, 5, 0, time.UTC)))
				p.stop()
				runs := w.runs(tidy)
				for i, r := range runs {
					if r.State != domain.JobDone || w.starts(r.Tick) != 1 || i > 0 && r.Tick.Sub(runs[i-1].Tick) != 10*time.Second {
						t.Errorf("crash after effect %d: %d starts of %+v", crashAt, w.starts(r.Tick), r)
					}
				}
				if len(runs) != 6 || len(w.procs) != 6 {
					t.Errorf("crash after effect %d: %d runs, %d processes\n%s", crashAt, len(runs), len(w.procs), told(runs))
				}
			})
			if t.Failed() || crashAt > 100 {
				t.Fatalf("stopped after %d", crashAt)
			}
			if !crashed && crashAt < 8 {
				t.Errorf("only %d effects: nothing was tried", crashAt)
			}
		}
	}
}

func TestOverlapSkip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = 25 * time.Second
		w.release("rel_1", tenSeconds, nil)
		w.own("rel_1")
		defer w.serve().stop()
		time.Sleep(69 * time.Second)
		wantRuns(t, w, `
			00:00:10 rel_1 done
			00:00:20  skipped the run of 2000-01-01 00:00:10 UTC was not over
			00:00:30  skipped the run of 2000-01-01 00:00:10 UTC was not over
			00:00:40 rel_1 done
			00:00:50  skipped the run of 2000-01-01 00:00:40 UTC was not over
			00:01:00  skipped the run of 2000-01-01 00:00:40 UTC was not over`)
	})
}

func TestOverlapQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = 25 * time.Second
		w.release("rel_1", tenSeconds, func(l *domain.Workload) { l.Overlap = "queue" })
		w.own("rel_1")
		p := w.serve()
		time.Sleep(33 * time.Second)
		wantRuns(t, w, `
			00:00:10 rel_1 running
			00:00:20  queued
			00:00:30  skipped the run of 2000-01-01 00:00:10 UTC was not over, and another one waits for it`)
		// What waits is not lost with the process, and keeps its place.
		p.stop()
		p = w.serve()
		defer p.stop()
		time.Sleep(10 * time.Second)
		wantRuns(t, w, `
			00:00:10 rel_1 done
			00:00:20 rel_1 running
			00:00:30  skipped the run of 2000-01-01 00:00:10 UTC was not over, and another one waits for it
			00:00:40  queued`)
	})
}

func TestTicksWhileNobodyWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.release("rel_1", "*/20 * * * * * UTC", nil)
		w.own("rel_1")
		p := w.serve()
		time.Sleep(21 * time.Second)
		p.stop()
		time.Sleep(time.Hour)
		w.takes = 30 * time.Second
		defer w.serve().stop()
		time.Sleep(125 * time.Second)
		var tail []domain.JobRun
		runs := w.runs(tidy)
		for _, r := range runs {
			if r.State != domain.JobMissed {
				tail = append(tail, r)
			}
		}
		// Of those older than a minute only the newest ran, then the younger ones, in order, although each took longer than
		// the time between two ticks.
		want := `00:00:20 rel_1 done 
00:59:20 rel_1 done late by 1m1s: nobody was there at its time
00:59:40 rel_1 done late by 41s: nobody was there at its time
01:00:00 rel_1 done late by 21s: nobody was there at its time
01:00:20 rel_1 done 
`
		if got := told(tail); !strings.HasPrefix(got, want) {
			t.Errorf("the runs are\n%s\nwant\n%s", got, want)
		}
		if len(runs)-len(tail) != missedRuns {
			t.Errorf("%d are recorded as missed:\n%s", len(runs)-len(tail), told(runs))
		}
		first := runs[1]
		if first.State != domain.JobMissed || first.Message != "nobody was there to start it, nor the 166 ticks before it since 2000-01-01 00:00:40 UTC" {
			t.Errorf("the first of them: %+v", first)
		}
	})
}

// A job of every second has more ticks in a year than anybody wants to hear of.
func TestTicksOfAYear(t *testing.T) {
	began := time.Now()
	s := parse(t, "* * * * * * UTC")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := passedSince(s, now.AddDate(-1, 0, 0), now)
	if len(p.missed) != missedRuns || p.before != counted || len(p.due) != 62 || !p.last().Equal(now) || !p.due[0].Equal(now.Add(-61*time.Second)) {
		t.Errorf("%d missed, %d before, %d due from %s to %s", len(p.missed), p.before, len(p.due), p.due[0], p.last())
	}
	p = passedSince(parse(t, "0 0 29 2 * UTC"), now.AddDate(-5, 0, 0), now)
	if len(p.missed) != 0 || len(p.due) != 1 || p.due[0].Year() != 2024 {
		t.Errorf("a leap day: %+v", p)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestJobsRunWhereTheTrafficIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.release("rel_1", tenSeconds, nil)
		w.release("rel_2", tenSeconds, nil)
		defer w.serve().stop()
		time.Sleep(15 * time.Second) // nothing is stable yet
		w.own("rel_1")
		time.Sleep(20 * time.Second) // …35
		w.own("rel_2")
		time.Sleep(10 * time.Second) // …45
		w.own("rel_1")
		time.Sleep(10 * time.Second)
		wantRuns(t, w, `
			00:00:20 rel_1 done
			00:00:30 rel_1 done
			00:00:40 rel_2 done
			00:00:50 rel_1 done`)
	})
}

// Another schedule, or a job that comes back, has no past.
func TestAnotherScheduleHasNoPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.release("rel_1", "0 0 * * * UTC", nil) // daily
		w.release("rel_2", tenSeconds, nil)
		w.release("rel_3", tenSeconds, func(l *domain.Workload) { l.Role = "other" })
		w.own("rel_1")
		p := w.serve()
		time.Sleep(30 * time.Hour)
		w.own("rel_2")
		time.Sleep(12 * time.Second)
		w.own("rel_3")
		time.Sleep(time.Hour)
		w.own("rel_2")
		time.Sleep(11 * time.Second)
		p.stop()
		var states []string
		for _, r := range w.runs(tidy) {
			states = append(states, r.Tick.UTC().Format("15:04:05 ")+string(r.State))
		}
		if got := strings.Join(states, ", "); got != "00:00:00 done, 06:00:10 done, 07:00:20 done" {
			t.Errorf("the runs are %s", got)
		}
	})
}

func TestRollbackEndsItsJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Hour
		w.release("rel_1", tenSeconds, func(l *domain.Workload) { l.Overlap = "queue" })
		w.release("rel_2", tenSeconds, func(l *domain.Workload) { l.Overlap = "queue" })
		w.own("rel_2")
		p := w.serve()
		defer p.stop()
		time.Sleep(25 * time.Second) // one runs, one waits
		w.own("rel_1")
		w.set(func() { w.takes = time.Second })
		if err := p.End(t.Context(), "shop", domain.Staging, "rel_2"); err != nil {
			t.Fatal(err)
		}
		if err := p.End(t.Context(), "shop", domain.Production, "rel_1"); err != nil {
			t.Fatal(err)
		}
		if got := w.runs(tidy)[0].State; got != domain.JobRunning {
			t.Fatalf("the end of another release made it %s", got)
		}
		if err := p.End(t.Context(), "shop", domain.Production, "rel_2"); err != nil {
			t.Fatal(err)
		}
		if got := w.runs(tidy)[0].State; got != domain.JobFailed {
			t.Errorf("End returned while it was %s", got)
		}
		time.Sleep(2 * time.Second)
		wantRuns(t, w, `
			00:00:10 rel_2 failed ended by the rollback
			00:00:20 rel_1 done`)
	})
}

// The rollback comes between the choice of the release and its record.
func TestRollbackWhileAJobChooses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Hour
		w.release("rel_1", tenSeconds, nil)
		w.release("rel_2", tenSeconds, nil)
		w.own("rel_2")
		p := w.serve()
		defer p.stop()
		time.Sleep(9 * time.Second)
		asked := 0
		w.set(func() {
			w.ownerAsk = func() {
				if asked++; asked == 2 { // first the look at what is due, then the choice for it
					w.own("rel_1")
					if err := p.End(t.Context(), "shop", domain.Production, "rel_2"); err != nil {
						t.Error(err)
					}
				}
			}
		})
		time.Sleep(2 * time.Second)
		wantRuns(t, w, `00:00:10 rel_1 running`)
		if len(w.procs) != 1 {
			t.Errorf("%d processes were started", len(w.procs))
		}
	})
}

// The process dies after each effect of a rollback. Whoever comes next calls End again, as deliveries do.
func TestRollbackWhateverDies(t *testing.T) {
	for crashAt, crashed := 1, true; crashed; crashAt++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.takes = time.Hour
			w.release("rel_1", "*/30 * * * * * UTC", nil)
			w.release("rel_2", "*/30 * * * * * UTC", nil)
			w.own("rel_2")
			w.crashAt = crashAt
			end := func(p *process) {
				w.own("rel_1")
				w.set(func() { w.takes = time.Second })
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_ = p.End(ctx, "shop", domain.Production, "rel_2")
			}
			p := w.serve()
			time.Sleep(31 * time.Second)
			end(p)
			p.stop()
			w.set(func() { crashed, w.crashAt = w.down, 0 })
			p = w.serve()
			end(p)
			time.Sleep(20 * time.Second)
			p.stop()
			// The run was there and was ended by the rollback, or it had not begun and ran on the other release.
			runs := w.runs(tidy)
			if len(runs) != 1 || w.starts(runs[0].Tick) != 1 {
				t.Fatalf("crash after effect %d: %d starts\n%s", crashAt, w.starts(runs[0].Tick), told(runs))
			}
			r := runs[0]
			r.Message = strings.TrimPrefix(r.Message, "late by 31s: nobody was there at its time; ")
			ended := r.Release == "rel_2" && r.State == domain.JobFailed && r.Message == endedByRollback
			moved := r.Release == "rel_1" && r.State == domain.JobDone
			if !ended && !moved {
				t.Errorf("crash after effect %d:\n%s", crashAt, told(runs))
			}
		})
		if t.Failed() || crashAt > 100 {
			t.Fatalf("stopped after %d", crashAt)
		}
	}
}

// Whoever took a release back died before End, and nobody calls it again.
func TestRollbackThatNobodyToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Hour
		w.release("rel_1", tenSeconds, nil)
		w.release("rel_2", tenSeconds, nil)
		w.own("rel_2")
		p := w.serve()
		time.Sleep(15 * time.Second)
		p.stop()
		if err := p.End(t.Context(), "shop", domain.Production, "rel_2"); domain.CodeOf(err) != domain.Unavailable {
			t.Errorf("End without anybody who ends: %v", err)
		}
		w.own("rel_1")
		w.set(func() { w.taken, w.takes = map[string]bool{"rel_2": true}, time.Second })
		p = w.serve()
		defer p.stop()
		time.Sleep(2 * time.Second)
		wantRuns(t, w, `00:00:10 rel_2 failed ended by the rollback`)
	})
}

// A job that cannot be ended does not hold up the rollback for ever.
func TestEndHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Hour
		w.release("rel_1", tenSeconds, nil)
		w.own("rel_1")
		p := w.serve()
		defer p.stop()
		time.Sleep(15 * time.Second)
		w.set(func() { w.down = true }) // nothing can be stored or stopped
		began := time.Now()
		if err := p.End(t.Context(), "shop", domain.Production, "rel_1"); domain.CodeOf(err) != domain.Failed || time.Since(began) != endWithin {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		w.set(func() { w.down = false })
		time.Sleep(2 * time.Second)
		if r := w.runs(tidy)[0]; r.State != domain.JobFailed || r.Message != endedByRollback {
			t.Errorf("afterwards: %+v", r)
		}
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Hour
		w.release("rel_1", "*/30 * * * * * UTC", func(l *domain.Workload) { l.Timeout = 20 * time.Second })
		w.own("rel_1")
		p := w.serve()
		time.Sleep(40 * time.Second)
		p.stop() // its time goes on without the process
		p = w.serve()
		defer p.stop()
		time.Sleep(9 * time.Second)
		wantRuns(t, w, `00:00:30 rel_1 running`)
		time.Sleep(2 * time.Second)
		wantRuns(t, w, `00:00:30 rel_1 failed ended after its timeout of 20s`)
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.code = 3
		w.release("rel_1", tenSeconds, nil)
		w.own("rel_1")
		p := w.serve()
		defer p.stop()
		time.Sleep(15500 * time.Millisecond) // never at the moment of a tick or a look
		w.set(func() { w.refuse = errors.New("no such file") })
		time.Sleep(10 * time.Second)
		w.set(func() {
			w.refuse, w.code = nil, 0
			w.blind = errors.New("the data plane does not answer")
		})
		time.Sleep(16 * time.Second) // …41.5
		w.set(func() { w.blind = nil })
		time.Sleep(5 * time.Second)
		wantRuns(t, w, `
			00:00:10 rel_1 failed it ended with exit code 3
			00:00:20 rel_1 failed no such file
			00:00:30 rel_1 done late by 12s: nobody was there at its time
			00:00:40 rel_1 done`)
	})
}

// What stands in the store of a process that is not there any more.
func TestWhatIsNotKnownAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.release("rel_1", "0 0 * * * UTC", nil)
		w.own("rel_1")
		tick := time.Now()
		rows := []domain.JobRun{
			{Tick: tick, State: domain.JobRunning, Release: "rel_0", Started: &tick},
			{Tick: tick.Add(time.Second), State: domain.JobClaimed, Release: "rel_0"},
			{Tick: tick.Add(2 * time.Second), State: domain.JobQueued},
		}
		w.rows[tidy] = map[int64]domain.JobRun{}
		for _, r := range rows {
			r.App, r.Environment, r.Role = tidy.app, tidy.env, tidy.role
			w.rows[tidy][r.Tick.Unix()] = r
		}
		defer w.serve().stop()
		time.Sleep(5 * time.Second)
		wantRuns(t, w, `
			00:00:00 rel_0 failed nothing is known of it any more
			00:00:01 rel_1 done
			00:00:02 rel_1 done`)
	})
}

// A clock that is set back does not bring back what was accounted for; one that was far ahead does not stop a job for ever.
func TestClockSetBack(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		20 * time.Second:    "00:00:30 done, 00:00:40 done",
		20000 * time.Hour:   "00:00:10 done, 00:00:20 done, 00:00:30 done, 00:00:40 done",
		12 * time.Hour:      "",
		-20 * time.Second:   "23:59:50 done, 00:00:00 done, 00:00:10 done, 00:00:20 done, 00:00:30 done, 00:00:40 done",
		23*time.Hour + 3599: "",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.release("rel_1", tenSeconds, nil)
			w.own("rel_1")
			w.marks[tidy] = Mark{tidy.app, tidy.env, tidy.role, tenSeconds, time.Now().Add(ahead)}
			p := w.serve()
			time.Sleep(45 * time.Second)
			p.stop()
			var states []string
			for _, r := range w.runs(tidy) {
				states = append(states, r.Tick.UTC().Format("15:04:05 ")+string(r.State))
			}
			if got := strings.Join(states, ", "); got != want {
				t.Errorf("a mark %s ahead: the runs are %q, want %q", ahead, got, want)
			}
		})
	}
}
