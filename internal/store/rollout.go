package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/belay-cd/belay/internal/domain"
)

// Slot returns what is stable in one environment of an app; the slot of a new app names it and holds nothing.
func (s *Store) Slot(ctx context.Context, app string, env domain.Environment) (domain.Slot, error) {
	slot, err := document[domain.Slot](ctx, s.readers, `SELECT document FROM slots WHERE app = ? AND environment = ?`, app, env)
	if errors.Is(err, sql.ErrNoRows) {
		return domain.Slot{App: app, Environment: env}, nil
	}
	return slot, reading(err, "slot of "+app)
}

// Slots lists all slots that were ever saved, by app and environment.
func (s *Store) Slots(ctx context.Context) ([]domain.Slot, error) {
	list, err := documents[domain.Slot](ctx, s.readers, `SELECT document FROM slots ORDER BY app, environment`)
	return list, reading(err, "slots")
}

// SaveSlot stores a slot.
func (s *Store) SaveSlot(ctx context.Context, slot domain.Slot) error {
	return s.write(ctx, "store slot of "+slot.App, func(tx *sql.Tx) error { return saveSlot(ctx, tx, slot) })
}

func saveSlot(ctx context.Context, tx *sql.Tx, slot domain.Slot) error {
	_, err := exec(ctx, tx, `INSERT INTO slots (app, environment, document) VALUES (?, ?, ?)
		ON CONFLICT (app, environment) DO UPDATE SET document = excluded.document`, slot.App, slot.Environment, asJSON{slot})
	return err
}

// isOpen reports whether a rollout still holds its environment.
func isOpen(state domain.RolloutState) bool {
	return state == domain.RolloutOpen || state == domain.RolloutReverting
}

// OpenRollout stores a rollout that begins, and gives it an ID where it has none. While another one of the same app and
// environment is open it is a Conflict; opening the same rollout again stores it again.
func (s *Store) OpenRollout(ctx context.Context, r domain.RolloutRecord) (domain.RolloutRecord, error) {
	if !isOpen(r.State) {
		return r, domain.Errorf(domain.Invalid, "open rollout %s: it is %s already", r.ID, r.State)
	}
	if r.ID == "" {
		r.ID = domain.NewID("rol_")
	}
	err := s.write(ctx, "open rollout "+r.ID, func(tx *sql.Tx) error {
		other, err := document[domain.RolloutRecord](ctx, tx,
			`SELECT document FROM rollouts WHERE app = ? AND environment = ? AND open = 1 AND id <> ?`, r.App, r.Environment, r.ID)
		if err == nil {
			return domain.Errorf(domain.Conflict, "rollout %s of delivery %d is open in %s of %s", other.ID, other.Delivery, r.Environment, r.App).
				WithHint("one rollout at a time: wait for its end, or roll it back")
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		at, err := position(ctx, tx)
		if err != nil {
			return err
		}
		_, err = exec(ctx, tx, `INSERT INTO rollouts (id, app, environment, delivery, position, open, document) VALUES (?, ?, ?, ?, ?, 1, ?)
			ON CONFLICT (id) DO UPDATE SET open = 1, document = excluded.document`, r.ID, r.App, r.Environment, r.Delivery, at, asJSON{r})
		return err
	})
	return r, err
}

// SaveRollout stores how far a rollout is.
func (s *Store) SaveRollout(ctx context.Context, r domain.RolloutRecord) error {
	return s.write(ctx, "store rollout "+r.ID, func(tx *sql.Tx) error { return saveRollout(ctx, tx, r) })
}

func saveRollout(ctx context.Context, tx *sql.Tx, r domain.RolloutRecord) error {
	changed, err := exec(ctx, tx, `UPDATE rollouts SET open = ?, document = ? WHERE id = ?`, flag(isOpen(r.State)), asJSON{r}, r.ID)
	if err == nil && changed == 0 {
		err = domain.Errorf(domain.NotFound, "rollout %s: not found", r.ID)
	}
	return err
}

// FinishRollout stores the final state of a rollout and its slot at once: no crash lies between the two.
func (s *Store) FinishRollout(ctx context.Context, r domain.RolloutRecord, slot domain.Slot) error {
	if isOpen(r.State) {
		return domain.Errorf(domain.Invalid, "finish rollout %s: it is still %s", r.ID, r.State)
	}
	if r.App != slot.App || r.Environment != slot.Environment {
		return domain.Errorf(domain.Invalid, "finish rollout %s: the slot is that of %s in %s", r.ID, slot.App, slot.Environment)
	}
	return s.write(ctx, "finish rollout "+r.ID, func(tx *sql.Tx) error {
		if err := saveRollout(ctx, tx, r); err != nil {
			return err
		}
		if err := forgetJudge(ctx, tx, r); err != nil {
			return err
		}
		return saveSlot(ctx, tx, slot)
	})
}

// Rollout returns one rollout.
func (s *Store) Rollout(ctx context.Context, id string) (domain.RolloutRecord, error) {
	r, err := document[domain.RolloutRecord](ctx, s.readers, `SELECT document FROM rollouts WHERE id = ?`, id)
	return r, missing(err, "rollout %s", id)
}

// RolloutOf returns the newest rollout of an app in one environment, open or not.
func (s *Store) RolloutOf(ctx context.Context, app string, env domain.Environment) (domain.RolloutRecord, error) {
	r, err := document[domain.RolloutRecord](ctx, s.readers,
		`SELECT document FROM rollouts WHERE app = ? AND environment = ? ORDER BY position DESC LIMIT 1`, app, env)
	return r, missing(err, "rollout of %s in %s", app, env)
}

// OpenRollouts lists those of all apps that hold their environment, oldest first.
func (s *Store) OpenRollouts(ctx context.Context) ([]domain.RolloutRecord, error) {
	list, err := documents[domain.RolloutRecord](ctx, s.readers, `SELECT document FROM rollouts WHERE open = 1 ORDER BY position`)
	return list, reading(err, "open rollouts")
}

// RolloutsOf lists the rollouts of one delivery, oldest first.
func (s *Store) RolloutsOf(ctx context.Context, app string, delivery int) ([]domain.RolloutRecord, error) {
	list, err := documents[domain.RolloutRecord](ctx, s.readers,
		`SELECT document FROM rollouts WHERE app = ? AND delivery = ? ORDER BY position`, app, delivery)
	return list, reading(err, "rollouts of "+app)
}
