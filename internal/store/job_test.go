package store_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/store"
)

var jobTick = time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)

func jobRun(role string, after time.Duration, state domain.JobState) domain.JobRun {
	return domain.JobRun{App: "shop", Environment: domain.Production, Role: role, Tick: jobTick.Add(after), State: state}
}

func jobMark(role string, after time.Duration) store.JobMark {
	return store.JobMark{App: "shop", Environment: domain.Production, Role: role, Schedule: "* * * * * UTC", At: jobTick.Add(after)}
}

func TestATickIsClaimedOnce(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "belay.db")
	s := open(t, path)
	var claims sync.Map
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 10 {
				got, err := s.ClaimJobs(ctx, jobMark("tidy", time.Duration(i)*time.Second), jobRun("tidy", time.Duration(i)*time.Second, domain.JobClaimed))
				if err != nil {
					t.Error(err)
				}
				for _, r := range got {
					if _, twice := claims.LoadOrStore(r.Tick, worker); twice {
						t.Errorf("%s was claimed twice", r.Tick)
					}
				}
			}
		})
	}
	wg.Wait()
	// The claim outlives the process.
	ok(t, s.Close())
	s = open(t, path)
	if got := must(s.ClaimJobs(ctx, jobMark("tidy", 0), jobRun("tidy", 9*time.Second, domain.JobClaimed)))(t); len(got) != 0 {
		t.Errorf("after opening again: claimed %+v", got)
	}
	if runs := must(s.OpenJobRuns(ctx))(t); len(runs) != 10 || !runs[0].Tick.Equal(jobTick) || !runs[9].Tick.Equal(jobTick.Add(9*time.Second)) {
		t.Errorf("open runs: %+v", runs)
	}
	// Another role and another environment have ticks of their own.
	other := jobRun("mail", 0, domain.JobClaimed)
	staging := jobRun("tidy", 0, domain.JobClaimed)
	staging.Environment = domain.Staging
	if got := must(s.ClaimJobs(ctx, jobMark("tidy", 0), other, staging))(t); len(got) != 2 {
		t.Errorf("claimed %+v", got)
	}
}

func TestJobMarks(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	for _, m := range []store.JobMark{jobMark("tidy", time.Second), jobMark("mail", 0), jobMark("tidy", time.Minute)} {
		if got := must(s.ClaimJobs(ctx, m))(t); len(got) != 0 {
			t.Errorf("claimed %+v", got)
		}
	}
	if marks := must(s.JobMarks(ctx))(t); len(marks) != 2 || marks[0] != jobMark("mail", 0) || marks[1] != jobMark("tidy", time.Minute) {
		t.Errorf("marks: %+v", marks)
	}
	ok(t, s.DropJobMark(ctx, "shop", domain.Production, "mail"))
	ok(t, s.DropJobMark(ctx, "shop", domain.Staging, "tidy"))
	if marks := must(s.JobMarks(ctx))(t); len(marks) != 1 || marks[0].Role != "tidy" {
		t.Errorf("marks: %+v", marks)
	}
}

func TestJobRuns(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	wantCode(t, s.SaveJobRun(ctx, jobRun("tidy", 0, domain.JobRunning)), domain.NotFound)
	var all []domain.JobRun
	for i := range 10 {
		all = append(all, jobRun("tidy", time.Duration(i)*time.Minute, domain.JobClaimed))
	}
	must(s.ClaimJobs(ctx, jobMark("tidy", 9*time.Minute), all...))(t)
	for i, r := range all {
		switch {
		case i == 1:
			r.State, r.Release = domain.JobRunning, "rel_1"
		case i < 8:
			r.State, r.Code, r.Message = domain.JobFailed, 3, "exit code 3"
		default:
			r.State = domain.JobQueued
		}
		ok(t, s.SaveJobRun(ctx, r))
	}
	if runs := must(s.OpenJobRuns(ctx))(t); len(runs) != 3 || runs[0].Release != "rel_1" || runs[1].State != domain.JobQueued {
		t.Errorf("open runs: %+v", runs)
	}
	ok(t, s.PruneJobRuns(ctx, "shop", domain.Production, "tidy", 4))
	ok(t, s.PruneJobRuns(ctx, "shop", domain.Production, "mail", 0))
	runs := must(s.JobRuns(ctx, "shop", domain.Production, "tidy", 0))(t)
	if len(runs) != 5 || !runs[0].Tick.Equal(all[9].Tick) || runs[2].Message != "exit code 3" || runs[4].State != domain.JobRunning {
		t.Errorf("runs that are kept: %+v", runs)
	}
	if runs := must(s.JobRuns(ctx, "shop", domain.Production, "tidy", 2))(t); len(runs) != 2 || runs[1].Tick != all[8].Tick {
		t.Errorf("the newest two: %+v", runs)
	}
}
