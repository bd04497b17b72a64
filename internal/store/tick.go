package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// seriesKey is what the series of a tick are stored by.
type seriesKey struct {
	app         string
	environment domain.Environment
	role        string
	rollout     string
}

func saveTicks(ctx context.Context, tx *sql.Tx, ticks []measure.Tick) error {
	for _, t := range ticks {
		at, err := take(ctx, tx, "tick", 1)
		if err != nil {
			return err
		}
		fresh, err := exec(ctx, tx, `INSERT INTO ticks (position, boot, n, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			at, t.Boot, t.N, t.At.UnixMilli())
		if err != nil {
			return err
		}
		if fresh == 0 {
			continue
		}
		byRole := map[seriesKey][]measure.Series{}
		for _, series := range t.Series {
			key := seriesKey{series.App, series.Environment, series.Role, series.Rollout}
			byRole[key] = append(byRole[key], series)
		}
		for key, series := range byRole {
			_, err := exec(ctx, tx, `INSERT INTO tick_series (app, environment, position, role, rollout, document) VALUES (?, ?, ?, ?, ?, ?)`,
				key.app, key.environment, at, key.role, key.rollout, asJSON{series})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// LastTick returns the highest stored number of one life of the proxy; 0 when there is none.
func (s *Store) LastTick(ctx context.Context, boot string) (n int64, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT COALESCE(MAX(n), 0) FROM ticks WHERE boot = ?`, boot).Scan(&n)
	return n, reading(err, "last tick")
}

// TickFilter selects what one app served. Zero values select all, App and Environment are required. From and To are both
// included.
type TickFilter struct {
	App         string
	Environment domain.Environment
	Role        string
	Rollout     string
	From, To    time.Time
	// After is a position that JudgeOf returned: only what was stored later.
	After int64
}

// EachTick calls each with what one app served, in the order in which it was observed; an error of each ends it. A second
// that was observed without any request of the app comes as a tick without series: it counts as seen. With Rollout they
// reach from its first tick to its last.
func (s *Store) EachTick(ctx context.Context, f TickFilter, each func(measure.Tick) error) error {
	join, args := ` AND s.app = ? AND s.environment = ?`, []any{f.App, f.Environment}
	if f.Role != "" {
		join, args = join+` AND s.role = ?`, append(args, f.Role)
	}
	where := ` WHERE 1 = 1`
	if f.Rollout != "" {
		join, args = join+` AND s.rollout = ?`, append(args, f.Rollout)
		where += ` AND t.position BETWEEN (SELECT MIN(position) FROM tick_series WHERE rollout = ? AND rollout <> '')
			AND (SELECT MAX(position) FROM tick_series WHERE rollout = ? AND rollout <> '')`
		args = append(args, f.Rollout, f.Rollout)
	}
	if f.After > 0 {
		where, args = where+` AND t.position > ?`, append(args, f.After)
	}
	if !f.From.IsZero() {
		where, args = where+` AND t.at >= ?`, append(args, f.From.UnixMilli())
	}
	if !f.To.IsZero() {
		where, args = where+` AND t.at <= ?`, append(args, f.To.UnixMilli())
	}
	err := s.eachTick(ctx, each, `SELECT t.boot, t.n, t.at, s.document FROM ticks t LEFT JOIN tick_series s ON s.position = t.position`+
		join+where+` ORDER BY t.position, s.role, s.rollout`, args...)
	return reading(err, "ticks of "+f.App)
}

// eachTick reads rows of boot, number, time and series, and puts those of one tick together.
func (s *Store) eachTick(ctx context.Context, each func(measure.Tick) error, query string, args ...any) error {
	found, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }()
	var now measure.Tick // Boot "" before the first
	for found.Next() {
		var t measure.Tick
		var at int64
		var doc sql.RawBytes
		if err := found.Scan(&t.Boot, &t.N, &at, &doc); err != nil {
			return err
		}
		t.At = time.UnixMilli(at).UTC()
		if t.Boot != now.Boot || t.N != now.N {
			if now.Boot != "" {
				if err := each(now); err != nil {
					return err
				}
			}
			now = t
		}
		if doc == nil {
			continue
		}
		var series []measure.Series
		if err := json.Unmarshal(doc, &series); err != nil {
			return err
		}
		now.Series = append(now.Series, series...)
	}
	if err := found.Err(); err != nil || now.Boot == "" {
		return err
	}
	return each(now)
}

// MarkDecisive keeps the ticks of a rollout for ever: its verdict can be computed again.
func (s *Store) MarkDecisive(ctx context.Context, rollout string) error {
	return s.write(ctx, "keep ticks of "+rollout, func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `INSERT INTO decisive_rollouts (rollout) VALUES (?) ON CONFLICT DO NOTHING`, rollout)
		return err
	})
}

// keptRollouts are those whose ticks stay: what is open may have to be judged again from its first tick.
const keptRollouts = `(SELECT rollout FROM decisive_rollouts UNION SELECT id FROM rollouts WHERE open = 1)`

// PruneTicks deletes the ticks from before a time, those of decisive and of open rollouts aside, and returns how many it
// deleted. The seconds that such a rollout observed stay too, whatever was served in them.
func (s *Store) PruneTicks(ctx context.Context, before time.Time) (pruned int64, err error) {
	err = s.write(ctx, "prune ticks", func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `DELETE FROM tick_series WHERE rollout NOT IN `+keptRollouts+`
			AND position IN (SELECT position FROM ticks WHERE at < ?)`, before.UnixMilli())
		if err != nil {
			return err
		}
		pruned, err = exec(ctx, tx, `DELETE FROM ticks WHERE at < ? AND NOT EXISTS (
			SELECT 1 FROM (SELECT MIN(position) AS first, MAX(position) AS last FROM tick_series
				WHERE rollout <> '' AND rollout IN `+keptRollouts+` GROUP BY rollout) kept
			WHERE ticks.position BETWEEN kept.first AND kept.last)`, before.UnixMilli())
		return err
	})
	return pruned, err
}
