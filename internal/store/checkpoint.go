package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// Checkpoint is what one second of all rollouts leaves behind. It is stored in one transaction, so that the disk is asked
// once, however many rollouts are open, and no judge is stored who knows more than the ticks.
type Checkpoint struct {
	Ticks []measure.Tick
	// Judges is what the judges of some open rollouts know when they have heard all ticks up to these. Of a rollout that is
	// over nothing is kept: its verdict can be had from the ticks.
	Judges map[string][]byte
}

// SaveCheckpoint stores a checkpoint, all of it or nothing. A tick that is stored already, by its boot and number, is left
// as it is.
func (s *Store) SaveCheckpoint(ctx context.Context, c Checkpoint) error {
	if len(c.Ticks) == 0 && len(c.Judges) == 0 {
		return nil
	}
	return s.write(ctx, "store ticks", func(tx *sql.Tx) error {
		if err := saveTicks(ctx, tx, c.Ticks); err != nil {
			return err
		}
		if len(c.Judges) == 0 {
			return nil
		}
		at, err := take(ctx, tx, "tick", 0)
		if err != nil {
			return err
		}
		for rollout, known := range c.Judges {
			_, err := exec(ctx, tx, `INSERT INTO judges (rollout, position, document) SELECT id, ?, ? FROM rollouts WHERE id = ? AND open = 1
				ON CONFLICT (rollout) DO UPDATE SET position = excluded.position, document = excluded.document`, at, known, rollout)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// JudgeOf returns what a rollout's judge knew last, and up to which position of the ticks, for TickFilter.After; nil when
// nothing is stored.
func (s *Store) JudgeOf(ctx context.Context, rollout string) (known []byte, position int64, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT document, position FROM judges WHERE rollout = ?`, rollout).Scan(&known, &position)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	return known, position, reading(err, "judge of "+rollout)
}

// forgetJudge drops what the judge of a rollout knew.
func forgetJudge(ctx context.Context, tx *sql.Tx, r domain.RolloutRecord) error {
	_, err := exec(ctx, tx, `DELETE FROM judges WHERE rollout = ?`, r.ID)
	return err
}
