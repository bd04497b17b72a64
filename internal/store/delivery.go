package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// EnsureApp makes the app known and ties it to its repository, named by the SHA of its root commit. An app that belongs to
// another repository is a Conflict.
func (s *Store) EnsureApp(ctx context.Context, app, repository string) error {
	return s.write(ctx, "store app "+app, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO apps (app, repository) VALUES (?, ?)
			ON CONFLICT (app) DO UPDATE SET repository = excluded.repository WHERE apps.repository = ''`, app, repository)
		if err != nil {
			return err
		}
		var owner string
		if err := tx.QueryRowContext(ctx, `SELECT repository FROM apps WHERE app = ?`, app).Scan(&owner); err != nil {
			return err
		}
		if owner != repository {
			return domain.Errorf(domain.Conflict, "app %s belongs to the repository that begins with commit %s, not to the one that begins with %s",
				app, domain.ShortCommit(owner), domain.ShortCommit(repository)).WithHint("give the app of this repository another name in belay.yaml")
		}
		return nil
	})
}

// Apps lists the names of all apps, sorted.
func (s *Store) Apps(ctx context.Context) ([]string, error) {
	apps, err := columnOf[string](ctx, s.readers, `SELECT app FROM apps ORDER BY app`)
	return apps, reading(err, "apps")
}

// CreateDelivery stores a delivery that begins. It gets the next number of its app, an ID where it has none, and the present
// time where Created is zero. A key that the app has seen answers with that first delivery, and created is false; the empty
// key is no key.
func (s *Store) CreateDelivery(ctx context.Context, d domain.Delivery, key string) (stored domain.Delivery, created bool, err error) {
	err = s.write(ctx, "store delivery of "+d.App, func(tx *sql.Tx) error {
		if key != "" {
			stored, err = document[domain.Delivery](ctx, tx, `SELECT document FROM deliveries WHERE app = ? AND idempotency_key = ?`, d.App, key)
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		stored, err = insertDelivery(ctx, tx, d, key)
		created = err == nil
		return err
	})
	if err != nil {
		return domain.Delivery{}, false, err
	}
	return stored, created, nil
}

func insertDelivery(ctx context.Context, tx *sql.Tx, d domain.Delivery, key string) (domain.Delivery, error) {
	if _, err := tx.ExecContext(ctx, `INSERT INTO apps (app, repository) VALUES (?, '') ON CONFLICT (app) DO NOTHING`, d.App); err != nil {
		return d, err
	}
	number, err := take(ctx, tx, "delivery/"+d.App, 1)
	if err != nil {
		return d, err
	}
	at, err := position(ctx, tx)
	if err != nil {
		return d, err
	}
	d.Number = int(number)
	if d.ID == "" {
		d.ID = domain.NewID("dly_")
	}
	if d.Created.IsZero() {
		d.Created = time.Now().UTC()
	}
	_, err = exec(ctx, tx, `INSERT INTO deliveries (app, number, id, position, final, idempotency_key, document) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		d.App, d.Number, d.ID, at, flag(d.State.Final()), sql.NullString{String: key, Valid: key != ""}, asJSON{d})
	return d, err
}

// SaveDelivery stores what became of a delivery.
func (s *Store) SaveDelivery(ctx context.Context, d domain.Delivery) error {
	return s.write(ctx, "store delivery of "+d.App, func(tx *sql.Tx) error { return saveDelivery(ctx, tx, d) })
}

func saveDelivery(ctx context.Context, tx *sql.Tx, d domain.Delivery) error {
	changed, err := exec(ctx, tx, `UPDATE deliveries SET final = ?, document = ? WHERE app = ? AND number = ?`,
		flag(d.State.Final()), asJSON{d}, d.App, d.Number)
	if err == nil && changed == 0 {
		err = domain.Errorf(domain.NotFound, "delivery %s/%d: not found", d.App, d.Number)
	}
	return err
}

// Delivery returns one delivery of an app; number 0 is the newest.
func (s *Store) Delivery(ctx context.Context, app string, number int) (domain.Delivery, error) {
	if number == 0 {
		d, err := document[domain.Delivery](ctx, s.readers, `SELECT document FROM deliveries WHERE app = ? ORDER BY number DESC LIMIT 1`, app)
		if errors.Is(err, sql.ErrNoRows) {
			return d, domain.Errorf(domain.NotFound, "no app %s on this server", app).WithHint("belay ship delivers its first commit")
		}
		return d, reading(err, "delivery of "+app)
	}
	d, err := document[domain.Delivery](ctx, s.readers, `SELECT document FROM deliveries WHERE app = ? AND number = ?`, app, number)
	if errors.Is(err, sql.ErrNoRows) {
		return d, domain.Errorf(domain.NotFound, "%s has no delivery #%d", app, number).WithHint("belay show shows the newest")
	}
	return d, reading(err, "delivery of "+app)
}

// Deliveries lists the newest first, at most limit; 0 is all.
func (s *Store) Deliveries(ctx context.Context, app string, limit int) ([]domain.Delivery, error) {
	list, err := documents[domain.Delivery](ctx, s.readers, `SELECT document FROM deliveries WHERE app = ? ORDER BY number DESC LIMIT ?`, app, limited(limit))
	return list, reading(err, "deliveries of "+app)
}

// ActiveDeliveries lists those of all apps that are not final, oldest first.
func (s *Store) ActiveDeliveries(ctx context.Context) ([]domain.Delivery, error) {
	list, err := documents[domain.Delivery](ctx, s.readers, `SELECT document FROM deliveries WHERE final = 0 ORDER BY position`)
	return list, reading(err, "active deliveries")
}

// flag is how a truth is stored: both dialects index it as a number.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
