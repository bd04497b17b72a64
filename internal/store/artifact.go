package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"
)

// Artifact is one built image.
type Artifact struct {
	App      string    `json:"app"`
	Digest   string    `json:"digest"` // sha256:… of the image manifest
	Inputs   string    `json:"inputs"` // key over all that it was built from
	Commit   string    `json:"commit"`
	Delivery int       `json:"delivery,omitempty"`
	Fixed    string    `json:"fixed,omitempty"` // folder under which it was built
	Size     int64     `json:"size"`            // bytes
	Created  time.Time `json:"created"`
	// Info is what the builder wants to find again; the store does not read it.
	Info json.RawMessage `json:"info,omitempty"`
}

// SaveArtifact stores an artifact; the same digest of the same app is replaced.
func (s *Store) SaveArtifact(ctx context.Context, a Artifact) error {
	return s.write(ctx, "store artifact "+a.Digest, func(tx *sql.Tx) error {
		at, err := position(ctx, tx)
		if err != nil {
			return err
		}
		_, err = exec(ctx, tx, `INSERT INTO artifacts (app, digest, inputs, position, document) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (app, digest) DO UPDATE SET inputs = excluded.inputs, position = excluded.position, document = excluded.document`,
			a.App, a.Digest, a.Inputs, at, asJSON{a})
		return err
	})
}

// Artifact returns the artifact of a digest.
func (s *Store) Artifact(ctx context.Context, digest string) (Artifact, error) {
	a, err := document[Artifact](ctx, s.readers, `SELECT document FROM artifacts WHERE digest = ? ORDER BY position DESC LIMIT 1`, digest)
	return a, missing(err, "artifact %s", digest)
}

// ArtifactByKey returns the newest artifact of an app that was built from the same inputs.
func (s *Store) ArtifactByKey(ctx context.Context, app, inputs string) (Artifact, error) {
	a, err := document[Artifact](ctx, s.readers,
		`SELECT document FROM artifacts WHERE app = ? AND inputs = ? ORDER BY position DESC LIMIT 1`, app, inputs)
	return a, missing(err, "artifact of %s built from %s", app, inputs)
}

// Artifacts lists the artifacts of an app, newest first.
func (s *Store) Artifacts(ctx context.Context, app string) ([]Artifact, error) {
	list, err := documents[Artifact](ctx, s.readers, `SELECT document FROM artifacts WHERE app = ? ORDER BY position DESC`, app)
	return list, reading(err, "artifacts of "+app)
}

// DeleteArtifact forgets an artifact, so that its inputs are built again. Its evidence stays.
func (s *Store) DeleteArtifact(ctx context.Context, app, digest string) error {
	return s.write(ctx, "delete artifact "+digest, func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `DELETE FROM artifacts WHERE app = ? AND digest = ?`, app, digest)
		return err
	})
}

// Evidence is a signed envelope about an artifact.
type Evidence struct {
	Digest   string
	App      string
	Delivery int
	Envelope []byte // DSSE
}

// SaveEvidence stores the evidence of a delivery about a digest; there is one, and the last write wins.
func (s *Store) SaveEvidence(ctx context.Context, e Evidence) error {
	return s.write(ctx, "store evidence of "+e.Digest, func(tx *sql.Tx) error {
		at, err := position(ctx, tx)
		if err != nil {
			return err
		}
		_, err = exec(ctx, tx, `INSERT INTO evidence (digest, app, delivery, position, envelope) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (digest, app, delivery) DO UPDATE SET position = excluded.position, envelope = excluded.envelope`,
			e.Digest, e.App, e.Delivery, at, e.Envelope)
		return err
	})
}

// EvidenceOf returns what a delivery proved about a digest.
func (s *Store) EvidenceOf(ctx context.Context, digest, app string, delivery int) (Evidence, error) {
	e := Evidence{Digest: digest, App: app, Delivery: delivery}
	err := s.readers.QueryRowContext(ctx, `SELECT envelope FROM evidence WHERE digest = ? AND app = ? AND delivery = ?`,
		digest, app, delivery).Scan(&e.Envelope)
	return e, missing(err, "evidence of delivery %s/%d about %s", app, delivery, digest)
}

// EvidenceAbout lists all evidence about a digest, newest first.
func (s *Store) EvidenceAbout(ctx context.Context, digest string) ([]Evidence, error) {
	list, err := rows(ctx, s.readers, func(scan func(...any) error) (Evidence, error) {
		e := Evidence{Digest: digest}
		err := scan(&e.App, &e.Delivery, &e.Envelope)
		return e, err
	}, `SELECT app, delivery, envelope FROM evidence WHERE digest = ? ORDER BY position DESC`, digest)
	return list, reading(err, "evidence about "+digest)
}
