package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sort"

	_ "modernc.org/sqlite" // the driver

	"github.com/belay-cd/belay/internal/domain"
)

// readers is the number of connections that read while one writes.
const readers = 4

//go:embed migrations/sqlite/*.sql
var migrationFiles embed.FS

// Open opens the database file, makes it when it is missing, and brings it up to this binary's version. A database that a
// newer binary has written is refused before anything in it is changed. sealer may be nil where no release has secrets.
func Open(ctx context.Context, path string, sealer Sealer) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	// SQLite gives its side files the mode of the database: nobody else may read any of them.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{path: path, sealer: sealer, subs: map[chan struct{}]struct{}{}}
	if s.writer, err = connect(path, 1, "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(1)"); err != nil {
		return nil, err
	}
	if s.readers, err = connect(path, readers, "query_only(1)"); err != nil {
		return nil, errors.Join(err, s.writer.Close())
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// connect makes a pool of connections. Transactions take the write lock at once, so that none fails half-way for want of it.
func connect(path string, connections int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_pragma": append([]string{"busy_timeout(10000)"}, pragmas...), "_txlock": {"immediate"}}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// migrate applies the numbered migrations that the database does not have, each in its own transaction.
func (s *Store) migrate(ctx context.Context) error {
	names, err := fs.Glob(migrationFiles, "migrations/sqlite/*.sql")
	if err != nil {
		return err
	}
	sort.Strings(names)
	has, err := s.version(ctx)
	if err != nil {
		return fmt.Errorf("open store %s: %w", s.path, err)
	}
	if has > len(names) {
		return domain.Errorf(domain.Invalid, "%s: it is of version %d, and this binary knows versions up to %d", s.path, has, len(names)).
			WithHint("a newer belay has written it: run that one, or go back to a backup from before")
	}
	for i := has; i < len(names); i++ {
		script, err := migrationFiles.ReadFile(names[i])
		if err != nil {
			return err
		}
		err = s.write(ctx, "migrate store with "+filepath.Base(names[i]), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, string(script)); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO schema_version (version) VALUES (?)`, i+1)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) version(ctx context.Context) (int, error) {
	var exists bool
	err := s.writer.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'schema_version')`).Scan(&exists)
	if err != nil {
		return 0, err
	}
	if !exists {
		_, err := s.writer.ExecContext(ctx, `CREATE TABLE schema_version (version INTEGER PRIMARY KEY)`)
		return 0, err
	}
	var version int
	err = s.writer.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_version`).Scan(&version)
	return version, err
}

// Size returns the bytes that the database takes on the disk, its write-ahead log included.
func (s *Store) Size() (int64, error) {
	var size int64
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(s.path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("size of store: %w", err)
		}
		size += info.Size()
	}
	return size, nil
}

// Backup writes a consistent copy of the database to a file that must not exist yet, while others read and write.
func (s *Store) Backup(ctx context.Context, path string) error {
	// The copy is as private as the database, which SQLite would not see to.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return domain.Errorf(domain.Conflict, "back up to %s: the file exists", path).WithHint("name another file")
	}
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	err = file.Close()
	if err == nil {
		_, err = s.writer.ExecContext(ctx, `VACUUM INTO ?`, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("back up store to %s: %w", path, err), os.Remove(path))
	}
	return nil
}
