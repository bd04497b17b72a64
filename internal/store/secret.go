package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// SealedSecret is one version of a secret as it lies on the disk.
type SealedSecret struct {
	domain.SecretVersion
	Sealed     []byte // nil: wiped
	Recipients string // names the set of keys that open it
}

// AddSecret stores a new version. Its number is the next one of the place, whatever provider the numbers before came from.
// seal encrypts the value for that number. A rotation is stored with it, or not at all.
func (s *Store) AddSecret(ctx context.Context, v domain.SecretVersion, recipients string, r *domain.Rotation,
	seal func(domain.SecretVersion) ([]byte, error),
) (domain.SecretVersion, error) {
	v.State, v.Version = domain.CurrentSecret, 0
	err := s.write(ctx, "store secret "+v.SecretPlace.String(), func(tx *sql.Tx) error {
		for _, table := range []string{"secrets", "secret_versions"} {
			var last int
			err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM `+table+` WHERE app = ? AND environment = ? AND name = ?`,
				v.App, v.Environment, v.Name).Scan(&last)
			if err != nil {
				return err
			}
			v.Version = max(v.Version, last)
		}
		v.Version++
		sealed, err := seal(v)
		if err != nil {
			return err
		}
		past, err := documents[domain.SecretVersion](ctx, tx, `SELECT document FROM secrets WHERE app = ? AND environment = ? AND name = ?`,
			v.App, v.Environment, v.Name)
		if err != nil {
			return err
		}
		for _, old := range past {
			if old.State != domain.CurrentSecret {
				continue
			}
			old.State = domain.RetiringSecret
			if err := saveSecret(ctx, tx, old); err != nil {
				return err
			}
		}
		_, err = exec(ctx, tx, `INSERT INTO secrets (app, environment, name, version, recipients, sealed, document) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			v.App, v.Environment, v.Name, v.Version, recipients, sealed, asJSON{v})
		if err != nil || r == nil {
			return err
		}
		r.Version = v.Version
		return saveRotation(ctx, tx, *r)
	})
	return v, err
}

func saveSecret(ctx context.Context, tx *sql.Tx, v domain.SecretVersion) error {
	_, err := exec(ctx, tx, `UPDATE secrets SET document = ? WHERE app = ? AND environment = ? AND name = ? AND version = ?`,
		asJSON{v}, v.App, v.Environment, v.Name, v.Version)
	return err
}

// SecretVersions lists the versions of an app's secrets, by environment, name and number; app "" lists the server's.
func (s *Store) SecretVersions(ctx context.Context, app string) ([]domain.SecretVersion, error) {
	list, err := documents[domain.SecretVersion](ctx, s.readers, `SELECT document FROM secrets WHERE app = ? ORDER BY environment, name, version`, app)
	return list, reading(err, "secrets of "+app)
}

// SealedSecrets lists the values of one place that are not wiped, oldest first.
func (s *Store) SealedSecrets(ctx context.Context, p domain.SecretPlace) ([]SealedSecret, error) {
	return s.sealedSecrets(ctx, `WHERE app = ? AND environment = ? AND name = ? AND sealed IS NOT NULL ORDER BY version`,
		p.App, p.Environment, p.Name)
}

// StaleSecrets lists the values that are encrypted for other recipients than these.
func (s *Store) StaleSecrets(ctx context.Context, recipients string) ([]SealedSecret, error) {
	return s.sealedSecrets(ctx, `WHERE recipients <> ? AND sealed IS NOT NULL`, recipients)
}

func (s *Store) sealedSecrets(ctx context.Context, where string, args ...any) ([]SealedSecret, error) {
	list, err := rows(ctx, s.readers, func(scan func(...any) error) (v SealedSecret, err error) {
		var version domain.SecretVersion
		err = scan(&version.App, &version.Environment, &version.Name, &version.Version, &v.Recipients, &v.Sealed)
		v.SecretVersion = version
		return v, err
	}, `SELECT app, environment, name, version, recipients, sealed FROM secrets `+where, args...)
	return list, reading(err, "secrets")
}

// ResealSecret replaces the encrypted value of a version by the same value for other recipients.
func (s *Store) ResealSecret(ctx context.Context, v SealedSecret) error {
	return s.write(ctx, "store secret "+v.SecretPlace.String(), func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `UPDATE secrets SET sealed = ?, recipients = ?
			WHERE app = ? AND environment = ? AND name = ? AND version = ? AND sealed IS NOT NULL`,
			v.Sealed, v.Recipients, v.App, v.Environment, v.Name, v.Version)
		return err
	})
}

// WipeSecret forgets the value of a version, and stores what became of it.
func (s *Store) WipeSecret(ctx context.Context, v domain.SecretVersion) error {
	return s.write(ctx, "wipe secret "+v.SecretPlace.String(), func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `UPDATE secrets SET sealed = NULL WHERE app = ? AND environment = ? AND name = ? AND version = ?`,
			v.App, v.Environment, v.Name, v.Version)
		if err != nil {
			return err
		}
		return saveSecret(ctx, tx, v)
	})
}

// SaveRotation stores how far a rotation is.
func (s *Store) SaveRotation(ctx context.Context, r domain.Rotation) error {
	return s.write(ctx, "store rotation of "+r.SecretPlace.String(), func(tx *sql.Tx) error { return saveRotation(ctx, tx, r) })
}

func saveRotation(ctx context.Context, tx *sql.Tx, r domain.Rotation) error {
	_, err := exec(ctx, tx, `INSERT INTO secret_rotations (id, app, open, document) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET open = excluded.open, document = excluded.document`, r.ID, r.App, flag(!r.Done), asJSON{r})
	return err
}

// OpenRotations lists the rotations that are not done, of all apps.
func (s *Store) OpenRotations(ctx context.Context) ([]domain.Rotation, error) {
	list, err := documents[domain.Rotation](ctx, s.readers, `SELECT document FROM secret_rotations WHERE open = 1 ORDER BY id`)
	return list, reading(err, "rotations")
}

// SecretVersion returns the version of a secret of another provider whose value has this fingerprint. A fingerprint that is
// not the newest one's begins the next version, from 1, also when an earlier version had it.
func (s *Store) SecretVersion(ctx context.Context, app string, env domain.Environment, name, fingerprint string) (version int, err error) {
	err = s.write(ctx, "version of secret "+name, func(tx *sql.Tx) error {
		var newest string
		err := tx.QueryRowContext(ctx, `SELECT version, fingerprint FROM secret_versions
			WHERE app = ? AND environment = ? AND name = ? ORDER BY version DESC LIMIT 1`, app, env, name).Scan(&version, &newest)
		if err != nil && !errors.Is(err, sql.ErrNoRows) || err == nil && newest == fingerprint {
			return err
		}
		var stored int // a number of Belay's own store is not given twice
		err = tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM secrets WHERE app = ? AND environment = ? AND name = ?`,
			app, env, name).Scan(&stored)
		if err != nil {
			return err
		}
		version = max(version, stored) + 1
		return seen(ctx, tx, domain.SecretPlace{App: app, Environment: env, Name: name}, version, fingerprint)
	})
	return version, err
}

// SeeSecret notes when a version of a provider that numbers its values itself was seen first.
func (s *Store) SeeSecret(ctx context.Context, p domain.SecretPlace, version int, fingerprint string) error {
	return s.write(ctx, "version of secret "+p.Name, func(tx *sql.Tx) error { return seen(ctx, tx, p, version, fingerprint) })
}

func seen(ctx context.Context, tx *sql.Tx, p domain.SecretPlace, version int, fingerprint string) error {
	_, err := exec(ctx, tx, `INSERT INTO secret_versions (app, environment, name, version, fingerprint, seen) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (app, environment, name, version) DO NOTHING`, p.App, p.Environment, p.Name, version, fingerprint, time.Now().Unix())
	return err
}

// SecretSeen says when a version of another provider was seen first; the zero time when nobody noted it.
func (s *Store) SecretSeen(ctx context.Context, p domain.SecretPlace, version int) (time.Time, error) {
	var at int64
	err := s.readers.QueryRowContext(ctx, `SELECT seen FROM secret_versions WHERE app = ? AND environment = ? AND name = ? AND version = ?`,
		p.App, p.Environment, p.Name, version).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) || err == nil && at == 0 {
		return time.Time{}, nil
	}
	return time.Unix(at, 0).UTC(), reading(err, "secret "+p.String())
}
