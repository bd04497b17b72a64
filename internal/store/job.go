package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// JobMark says up to which moment the ticks of a scheduled job are accounted for: there is a run for each, or it was decided
// that there is none. It counts for one schedule only.
type JobMark struct {
	App         string
	Environment domain.Environment
	Role        string
	Schedule    string
	At          time.Time // whole seconds
}

// JobMarks lists the marks of all jobs.
func (s *Store) JobMarks(ctx context.Context) ([]JobMark, error) {
	list, err := rows(ctx, s.readers, func(scan func(...any) error) (m JobMark, err error) {
		var at int64
		err = scan(&m.App, &m.Environment, &m.Role, &m.Schedule, &at)
		m.At = time.Unix(at, 0).UTC()
		return m, err
	}, `SELECT app, environment, role, schedule, at FROM job_marks ORDER BY app, environment, role`)
	return list, reading(err, "marks of jobs")
}

// ClaimJobs moves the mark of a job and stores the runs of its ticks, all of it or nothing. It returns those that nobody had
// claimed before: they are the caller's to start, and nobody else's ever.
func (s *Store) ClaimJobs(ctx context.Context, m JobMark, runs ...domain.JobRun) (claimed []domain.JobRun, err error) {
	err = s.write(ctx, "claim ticks of "+m.Role+" of "+m.App, func(tx *sql.Tx) error {
		claimed = nil
		_, err := exec(ctx, tx, `INSERT INTO job_marks (app, environment, role, schedule, at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (app, environment, role) DO UPDATE SET schedule = excluded.schedule, at = excluded.at`,
			m.App, m.Environment, m.Role, m.Schedule, m.At.Unix())
		if err != nil {
			return err
		}
		for _, r := range runs {
			fresh, err := exec(ctx, tx, `INSERT INTO job_runs (app, environment, role, tick, open, document) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT DO NOTHING`, r.App, r.Environment, r.Role, r.Tick.Unix(), flag(!runOver(r.State)), asJSON{r})
			if err != nil {
				return err
			}
			if fresh > 0 {
				claimed = append(claimed, r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// DropJobMark forgets the mark of a job that is no more. Its runs stay.
func (s *Store) DropJobMark(ctx context.Context, app string, env domain.Environment, role string) error {
	return s.write(ctx, "drop mark of "+role+" of "+app, func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `DELETE FROM job_marks WHERE app = ? AND environment = ? AND role = ?`, app, env, role)
		return err
	})
}

func runOver(state domain.JobState) bool {
	return state != domain.JobClaimed && state != domain.JobQueued && state != domain.JobRunning
}

// SaveJobRun stores how far a claimed run is.
func (s *Store) SaveJobRun(ctx context.Context, r domain.JobRun) error {
	return s.write(ctx, "store run of "+r.Role+" of "+r.App, func(tx *sql.Tx) error {
		changed, err := exec(ctx, tx, `UPDATE job_runs SET open = ?, document = ? WHERE app = ? AND environment = ? AND role = ? AND tick = ?`,
			flag(!runOver(r.State)), asJSON{r}, r.App, r.Environment, r.Role, r.Tick.Unix())
		if err == nil && changed == 0 {
			err = domain.Errorf(domain.NotFound, "run of %s of %s at %s: not found", r.Role, r.App, r.Tick.Format(time.RFC3339))
		}
		return err
	})
}

// OpenJobRuns lists the runs of all jobs that are not over, by their ticks.
func (s *Store) OpenJobRuns(ctx context.Context) ([]domain.JobRun, error) {
	list, err := documents[domain.JobRun](ctx, s.readers, `SELECT document FROM job_runs WHERE open = 1 ORDER BY tick, app, environment, role`)
	return list, reading(err, "open runs of jobs")
}

// JobRuns lists the runs of a job, the newest tick first, at most limit; 0 is all.
func (s *Store) JobRuns(ctx context.Context, app string, env domain.Environment, role string, limit int) ([]domain.JobRun, error) {
	list, err := documents[domain.JobRun](ctx, s.readers,
		`SELECT document FROM job_runs WHERE app = ? AND environment = ? AND role = ? ORDER BY tick DESC LIMIT ?`, app, env, role, limited(limit))
	return list, reading(err, "runs of "+role+" of "+app)
}

// PruneJobRuns deletes the runs of a job but the newest keep and those that are not over.
func (s *Store) PruneJobRuns(ctx context.Context, app string, env domain.Environment, role string, keep int) error {
	return s.write(ctx, "prune runs of "+role+" of "+app, func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `DELETE FROM job_runs WHERE app = ? AND environment = ? AND role = ? AND open = 0 AND tick NOT IN (
			SELECT tick FROM job_runs WHERE app = ? AND environment = ? AND role = ? ORDER BY tick DESC LIMIT ?)`,
			app, env, role, app, env, role, keep)
		return err
	})
}
