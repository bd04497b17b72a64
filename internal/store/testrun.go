package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"time"
)

const (
	// KeepTestRuns is how many runs of one level of an app are kept.
	KeepTestRuns = 200
	// KeepTestResults is how long the result of a run may be used again.
	KeepTestResults = 30 * 24 * time.Hour
)

// TestRun is one run of a level of tests. The store does not read Info.
type TestRun struct {
	App, Level string
	Inputs     string // hash of all that the result depends on
	// Usable says that it was green and may be used again for the same inputs.
	Usable bool
	At     time.Time
	Info   json.RawMessage
}

// SaveTestRun stores a run, and forgets those of the level that are too many or too old to be of use.
func (s *Store) SaveTestRun(ctx context.Context, r TestRun) error {
	info, err := pack(r.Info)
	if err != nil {
		return err
	}
	return s.write(ctx, "store run of "+r.Level+" tests", func(tx *sql.Tx) error {
		at, err := position(ctx, tx)
		if err != nil {
			return err
		}
		if _, err := exec(ctx, tx, `INSERT INTO test_runs (position, app, level, inputs, usable, at, document) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			at, r.App, r.Level, r.Inputs, r.Usable, r.At.Unix(), info); err != nil {
			return err
		}
		_, err = exec(ctx, tx, `DELETE FROM test_runs WHERE app = ? AND level = ? AND position NOT IN (
			SELECT position FROM test_runs WHERE app = ? AND level = ? ORDER BY position DESC LIMIT ?)`, r.App, r.Level, r.App, r.Level, KeepTestRuns)
		return err
	})
}

// UsableTestRun returns the newest run of a level with these inputs that was green and may be used again at a time; nil
// when there is none. One that ended after that time is no such run either: the clock was wrong then, or is now.
func (s *Store) UsableTestRun(ctx context.Context, app, level, inputs string, now time.Time) (json.RawMessage, error) {
	var body []byte
	err := s.readers.QueryRowContext(ctx, `SELECT document FROM test_runs WHERE app = ? AND level = ? AND inputs = ? AND usable = 1
		AND at BETWEEN ? AND ? ORDER BY position DESC LIMIT 1`, app, level, inputs, now.Add(-KeepTestResults).Unix(), now.Unix()).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, reading(err, "run of "+level+" tests")
	}
	info, err := unpack(body)
	return info, reading(err, "run of "+level+" tests")
}

// TestRuns lists the runs of a level, newest first; with inputs only those of the same. A limit of 0 is none.
func (s *Store) TestRuns(ctx context.Context, app, level, inputs string, limit int) ([]json.RawMessage, error) {
	list, err := rows(ctx, s.readers, func(scan func(...any) error) (json.RawMessage, error) {
		var body []byte
		if err := scan(&body); err != nil {
			return nil, err
		}
		return unpack(body)
	}, `SELECT document FROM test_runs WHERE app = ? AND level = ? AND (? = '' OR inputs = ?) ORDER BY position DESC LIMIT ?`,
		app, level, inputs, inputs, limited(limit))
	return list, reading(err, "runs of "+level+" tests")
}

func pack(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, err := zip.Write(plain)
	if err = errors.Join(err, zip.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func unpack(packed []byte) ([]byte, error) {
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zip)
}
