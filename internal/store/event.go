package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/belay-cd/belay/internal/domain"
)

// EventFilter selects events; zero values select all.
type EventFilter struct {
	App      string
	Delivery int
	Types    []string
}

// AppendEvents stores events in the given order, numbers them without a gap, wakes who subscribed and returns the number of
// the last. Seq of what is given is not read.
func (s *Store) AppendEvents(ctx context.Context, events ...domain.Event) (last int64, err error) {
	if len(events) == 0 {
		return s.LastEvent(ctx)
	}
	err = s.write(ctx, "store events", func(tx *sql.Tx) error {
		last, err = appendEvents(ctx, tx, events)
		return err
	})
	if err != nil {
		return 0, err
	}
	s.wake()
	return last, nil
}

func appendEvents(ctx context.Context, tx *sql.Tx, events []domain.Event) (int64, error) {
	last, err := take(ctx, tx, "event", len(events))
	if err != nil {
		return 0, err
	}
	for i, e := range events {
		e.Seq = last - int64(len(events)-1-i)
		_, err := exec(ctx, tx, `INSERT INTO events (seq, app, delivery, type, document) VALUES (?, ?, ?, ?, ?)`,
			e.Seq, e.App, e.Delivery, e.Type, asJSON{e})
		if err != nil {
			return 0, err
		}
	}
	return last, nil
}

// Events lists at most limit events after a number that match, in order; limit 0 is all.
func (s *Store) Events(ctx context.Context, after int64, f EventFilter, limit int) ([]domain.Event, error) {
	query, args := `SELECT document FROM events WHERE seq > ?`, []any{after}
	if f.App != "" {
		query, args = query+` AND app = ?`, append(args, f.App)
	}
	if f.Delivery != 0 {
		query, args = query+` AND delivery = ?`, append(args, f.Delivery)
	}
	if len(f.Types) > 0 {
		query += ` AND type IN (` + marks(len(f.Types)) + `)`
		for _, t := range f.Types {
			args = append(args, t)
		}
	}
	list, err := documents[domain.Event](ctx, s.readers, query+` ORDER BY seq LIMIT ?`, append(args, limited(limit))...)
	return list, reading(err, "events")
}

// LastEvent returns the number of the newest event; 0 before the first.
func (s *Store) LastEvent(ctx context.Context) (seq int64, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM events`).Scan(&seq)
	return seq, reading(err, "last event")
}

// PutFact stores what a person wants, before anything acts on it.
func (s *Store) PutFact(ctx context.Context, f domain.Fact) error {
	return s.write(ctx, "store fact "+f.Kind, func(tx *sql.Tx) error {
		at, err := position(ctx, tx)
		if err != nil {
			return err
		}
		_, err = exec(ctx, tx, `INSERT INTO facts (position, app, delivery, document) VALUES (?, ?, ?, ?)`, at, f.App, f.Delivery, asJSON{f})
		return err
	})
}

// Facts lists what people wanted of a delivery, in order; delivery 0 lists all facts of the app.
func (s *Store) Facts(ctx context.Context, app string, delivery int) ([]domain.Fact, error) {
	query, args := `SELECT document FROM facts WHERE app = ?`, []any{app}
	if delivery != 0 {
		query, args = query+` AND delivery = ?`, append(args, delivery)
	}
	list, err := documents[domain.Fact](ctx, s.readers, query+` ORDER BY position`, args...)
	return list, reading(err, "facts of "+app)
}

// Hold returns why an app is held, and nil when it is not.
func (s *Store) Hold(ctx context.Context, app string) (*domain.Hold, error) {
	hold, err := document[domain.Hold](ctx, s.readers, `SELECT document FROM holds WHERE app = ?`, app)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // not held is an answer, not an error
	}
	return &hold, reading(err, "hold of "+app)
}

// SetHold holds an app. The release that may not come again is kept without its workloads: what makes it the same release is
// enough to know it by, and no secret value lies here.
func (s *Store) SetHold(ctx context.Context, app string, h domain.Hold) error {
	h.Bad.Workloads = nil
	return s.write(ctx, "hold "+app, func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `INSERT INTO holds (app, document) VALUES (?, ?)
			ON CONFLICT (app) DO UPDATE SET document = excluded.document`, app, asJSON{h})
		return err
	})
}

// ClearHold lifts the hold of an app, if there is one.
func (s *Store) ClearHold(ctx context.Context, app string) error {
	return s.write(ctx, "lift hold of "+app, func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `DELETE FROM holds WHERE app = ?`, app)
		return err
	})
}

// Freezes lists every freeze that was set and not lifted, that of the whole server first. Whether one has run out is for the
// reader to say.
func (s *Store) Freezes(ctx context.Context) ([]domain.Freeze, error) {
	list, err := documents[domain.Freeze](ctx, s.readers, `SELECT document FROM freezes ORDER BY app`)
	return list, reading(err, "freezes")
}

// SetFreeze freezes an app, or the whole server where App is empty.
func (s *Store) SetFreeze(ctx context.Context, f domain.Freeze) error {
	return s.write(ctx, "freeze", func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `INSERT INTO freezes (app, document) VALUES (?, ?)
			ON CONFLICT (app) DO UPDATE SET document = excluded.document`, f.App, asJSON{f})
		return err
	})
}

// LiftFreeze lifts the freeze of an app, or that of the whole server where app is empty.
func (s *Store) LiftFreeze(ctx context.Context, app string) error {
	return s.write(ctx, "thaw", func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `DELETE FROM freezes WHERE app = ?`, app)
		return err
	})
}
