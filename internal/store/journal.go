package store

import (
	"context"
	"database/sql"
	"errors"
)

// JournalEntry is one recorded step of a run.
type JournalEntry struct {
	Name   string
	Record []byte
}

// Lookup returns what a step of a run recorded, and false when it has recorded nothing.
func (s *Store) Lookup(ctx context.Context, run, name string) (record []byte, ok bool, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT record FROM journal WHERE run = ? AND name = ?`, run, name).Scan(&record)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return record, err == nil, reading(err, "journal of "+run)
}

// Save records a step of a run. The last write wins; the step keeps its place in the order of the run.
func (s *Store) Save(ctx context.Context, run, name string, record []byte) error {
	if record == nil {
		record = []byte{} // recorded without a result is recorded
	}
	return s.write(ctx, "journal "+run+" "+name, func(tx *sql.Tx) error {
		at, err := position(ctx, tx)
		if err != nil {
			return err
		}
		_, err = exec(ctx, tx, `INSERT INTO journal (run, name, position, record) VALUES (?, ?, ?, ?)
			ON CONFLICT (run, name) DO UPDATE SET record = excluded.record`, run, name, at, record)
		return err
	})
}

// JournalOf lists the steps of a run in the order in which they were first recorded.
func (s *Store) JournalOf(ctx context.Context, run string) ([]JournalEntry, error) {
	list, err := rows(ctx, s.readers, func(scan func(...any) error) (e JournalEntry, err error) {
		err = scan(&e.Name, &e.Record)
		return e, err
	}, `SELECT name, record FROM journal WHERE run = ? ORDER BY position`, run)
	return list, reading(err, "journal of "+run)
}
