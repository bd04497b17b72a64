package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// KeepTicks is how long ticks are kept, those of decisive rollouts aside.
const KeepTicks = 14 * 24 * time.Hour

// Checkpoint is what one second of all rollouts leaves behind. It is stored in one transaction, so that the disk is asked
// once, however many rollouts are open.
type Checkpoint struct {
	Ticks      []measure.Tick
	Deliveries []domain.Delivery
	Rollouts   []domain.RolloutRecord
	Events     []domain.Event
}

// SaveCheckpoint stores a checkpoint, all of it or nothing, and wakes who subscribed to events.
func (s *Store) SaveCheckpoint(ctx context.Context, c Checkpoint) error {
	err := s.write(ctx, "store checkpoint", func(tx *sql.Tx) error {
		if err := saveTicks(ctx, tx, c.Ticks); err != nil {
			return err
		}
		for _, d := range c.Deliveries {
			if err := saveDelivery(ctx, tx, d); err != nil {
				return err
			}
		}
		for _, r := range c.Rollouts {
			if err := saveRollout(ctx, tx, r); err != nil {
				return err
			}
		}
		if len(c.Events) == 0 {
			return nil
		}
		_, err := appendEvents(ctx, tx, c.Events)
		return err
	})
	if err == nil && len(c.Events) > 0 {
		s.wake()
	}
	return err
}

// SaveTicks stores ticks. A tick that is stored already, by its boot and number, is left as it is.
func (s *Store) SaveTicks(ctx context.Context, ticks []measure.Tick) error {
	if len(ticks) == 0 {
		return nil
	}
	return s.write(ctx, "store ticks", func(tx *sql.Tx) error { return saveTicks(ctx, tx, ticks) })
}

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

// Ticks lists the stored ticks of one life of the proxy with numbers from … to, both included, in order.
func (s *Store) Ticks(ctx context.Context, boot string, from, to int64) ([]measure.Tick, error) {
	list, err := s.ticks(ctx, `SELECT t.boot, t.n, t.at, s.document FROM ticks t LEFT JOIN tick_series s ON s.position = t.position
		WHERE t.boot = ? AND t.n BETWEEN ? AND ? ORDER BY t.n, s.app, s.environment, s.role, s.rollout`, boot, from, to)
	return list, reading(err, "ticks")
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
}

// TicksOf lists what one app served, in the order in which it was observed. A second that was observed without any request of
// the app comes as a tick without series: it counts as seen. With Rollout they reach from its first tick to its last.
func (s *Store) TicksOf(ctx context.Context, f TickFilter) ([]measure.Tick, error) {
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
	if !f.From.IsZero() {
		where, args = where+` AND t.at >= ?`, append(args, f.From.UnixMilli())
	}
	if !f.To.IsZero() {
		where, args = where+` AND t.at <= ?`, append(args, f.To.UnixMilli())
	}
	list, err := s.ticks(ctx, `SELECT t.boot, t.n, t.at, s.document FROM ticks t LEFT JOIN tick_series s ON s.position = t.position`+
		join+where+` ORDER BY t.position, s.role, s.rollout`, args...)
	return list, reading(err, "ticks of "+f.App)
}

// ticks reads rows of boot, number, time and series, and puts those of one tick together.
func (s *Store) ticks(ctx context.Context, query string, args ...any) ([]measure.Tick, error) {
	list := []measure.Tick{}
	_, err := rows(ctx, s.readers, func(scan func(...any) error) (struct{}, error) {
		var t measure.Tick
		var at int64
		var doc []byte
		if err := scan(&t.Boot, &t.N, &at, &doc); err != nil {
			return struct{}{}, err
		}
		t.At = time.UnixMilli(at).UTC()
		if last := len(list) - 1; last < 0 || list[last].Boot != t.Boot || list[last].N != t.N {
			list = append(list, t)
		}
		if doc == nil {
			return struct{}{}, nil
		}
		var series []measure.Series
		err := json.Unmarshal(doc, &series)
		last := &list[len(list)-1]
		last.Series = append(last.Series, series...)
		return struct{}{}, err
	}, query, args...)
	return list, err
}

// MarkDecisive keeps the ticks of a rollout for ever: its verdict can be computed again.
func (s *Store) MarkDecisive(ctx context.Context, rollout string) error {
	return s.write(ctx, "keep ticks of "+rollout, func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `INSERT INTO decisive_rollouts (rollout) VALUES (?) ON CONFLICT DO NOTHING`, rollout)
		return err
	})
}

// PruneTicks deletes the ticks from before a time, those of decisive rollouts aside, and returns how many it deleted. The
// seconds that a decisive rollout observed stay too, whatever was served in them.
func (s *Store) PruneTicks(ctx context.Context, before time.Time) (pruned int64, err error) {
	err = s.write(ctx, "prune ticks", func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `DELETE FROM tick_series WHERE rollout NOT IN (SELECT rollout FROM decisive_rollouts)
			AND position IN (SELECT position FROM ticks WHERE at < ?)`, before.UnixMilli())
		if err != nil {
			return err
		}
		pruned, err = exec(ctx, tx, `DELETE FROM ticks WHERE at < ? AND NOT EXISTS (
			SELECT 1 FROM (SELECT MIN(s.position) AS first, MAX(s.position) AS last FROM tick_series s
				JOIN decisive_rollouts d ON d.rollout = s.rollout WHERE s.rollout <> '' GROUP BY s.rollout) kept
			WHERE ticks.position BETWEEN kept.first AND kept.last)`, before.UnixMilli())
		return err
	})
	return pruned, err
}
