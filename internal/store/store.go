// Package store keeps what the control plane must not forget: deliveries, releases, slots, rollouts, the journal, events,
// facts, ticks and artifacts. It is the only place with SQL.
//
// Nouns are stored as JSON documents beside the few columns that are queried. Every method that writes returns only when the
// write is on the disk. Queries keep to the SQL that SQLite and PostgreSQL share; all that is SQLite's alone stands in
// sqlite.go and in its migrations.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/belay-cd/belay/internal/domain"
)

// Sealer encrypts secret values for the disk. aad binds a sealed value to the place it belongs to: Open fails for another.
type Sealer interface {
	Seal(plain []byte, aad string) ([]byte, error)
	Open(sealed []byte, aad string) ([]byte, error)
}

// Store is one database. Its methods may be called at the same time; writes happen one after the other.
type Store struct {
	path    string
	sealer  Sealer
	writer  *sql.DB // one connection
	readers *sql.DB

	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

// Close waits for running queries and closes the database.
func (s *Store) Close() error {
	return errors.Join(s.readers.Close(), s.writer.Close())
}

// Subscribe returns a channel that receives after events were appended, and a function that ends the subscription. Wake-ups
// coalesce: whoever wakes reads Events until nothing is left. A slow reader blocks nobody.
func (s *Store) Subscribe() (wake <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, c)
	}
}

func (s *Store) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.subs {
		select {
		case c <- struct{}{}:
		default: // it is to wake up already
		}
	}
}

// write runs f in one transaction, and returns when it is on the disk.
func (s *Store) write(ctx context.Context, what string, f func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	err = f(tx)
	if err == nil {
		err = tx.Commit()
	}
	var known *domain.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// querier is a pool of readers or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// document reads one JSON document; its absence is sql.ErrNoRows.
func document[T any](ctx context.Context, q querier, query string, args ...any) (T, error) {
	var doc []byte
	var v T
	if err := q.QueryRowContext(ctx, query, args...).Scan(&doc); err != nil {
		return v, err
	}
	err := json.Unmarshal(doc, &v)
	return v, err
}

// documents reads a list of JSON documents.
func documents[T any](ctx context.Context, q querier, query string, args ...any) ([]T, error) {
	return rows(ctx, q, func(scan func(...any) error) (v T, err error) {
		var doc []byte
		if err := scan(&doc); err != nil {
			return v, err
		}
		err = json.Unmarshal(doc, &v)
		return v, err
	}, query, args...)
}

// rows reads a list; read scans one row.
func rows[T any](ctx context.Context, q querier, read func(scan func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	found, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	list := []T{}
	for found.Next() {
		v, err := read(found.Scan)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, found.Err()
}

// columnOf reads a list of one column.
func columnOf[T any](ctx context.Context, q querier, query string, args ...any) ([]T, error) {
	return rows(ctx, q, func(scan func(...any) error) (v T, err error) { err = scan(&v); return v, err }, query, args...)
}

// asJSON is an argument of a statement that is stored as a JSON document.
type asJSON struct{ v any }

// Value encodes the document.
func (d asJSON) Value() (driver.Value, error) {
	doc, err := json.Marshal(d.v)
	return string(doc), err
}

// exec runs a statement and returns how many rows it changed.
func exec(ctx context.Context, tx *sql.Tx, query string, args ...any) (int64, error) {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// take draws n numbers from a counter and returns the last. Numbers are gapless: a transaction that fails gives them back.
func take(ctx context.Context, tx *sql.Tx, counter string, n int) (int64, error) {
	var last int64
	err := tx.QueryRowContext(ctx, `INSERT INTO counters (name, value) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value`, counter, n).Scan(&last)
	return last, err
}

// position draws the next number that orders what is stored, whatever the clock does.
func position(ctx context.Context, tx *sql.Tx) (int64, error) { return take(ctx, tx, "position", 1) }

// missing turns the absence of a row into NotFound, and names the failed read otherwise.
func missing(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return domain.Errorf(domain.NotFound, "%s: not found", what)
	}
	return reading(err, what)
}

// reading names a failed read.
func reading(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read %s: %w", what, err)
}

// limited returns a limit for a query; zero and less is no limit.
func limited(limit int) int64 {
	if limit <= 0 {
		return math.MaxInt64
	}
	return int64(limit)
}

// marks returns n placeholders.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
