package evidence

import (
	"context"
	"crypto/ed25519"
	"encoding/json"

	"github.com/belay-cd/belay/internal/domain"
)

// Artifacts is where artifacts and what is attached to them lie.
type Artifacts interface {
	// Verify reads an artifact as a whole and says what of it is missing or altered.
	Verify(ctx context.Context, digest string) error
	// Attach stores a document beside an artifact; twice is the same as once.
	Attach(ctx context.Context, app, digest, mediaType string, document []byte) error
	// Attached returns the documents of a type beside an artifact; an altered one is an error.
	Attached(ctx context.Context, app, digest, mediaType string) ([][]byte, error)
}

// Gate records evidence and admits artifacts by it.
type Gate struct {
	Key       *Key
	Artifacts Artifacts
	Trusted   []ed25519.PublicKey // keys whose evidence counts besides Key: of a server that was moved
}

// Record signs what was seen of a stage and attaches it to the artifact.
func (g *Gate) Record(ctx context.Context, digest string, s Stage) error {
	envelope, err := g.Key.Sign(s.Statement(digest))
	if err != nil {
		return err
	}
	return g.Artifacts.Attach(ctx, s.App, digest, MediaType, envelope)
}

// Signed is an envelope and what it says. An envelope that does not verify says nothing.
type Signed struct {
	Envelope  []byte
	Statement Statement
	Err       error // why it does not verify
}

// Envelopes returns what is attached to an app's artifact, in no order: also what does not verify.
func (g *Gate) Envelopes(ctx context.Context, app, digest string) ([]Signed, error) {
	envelopes, err := g.Artifacts.Attached(ctx, app, digest, MediaType)
	if err != nil {
		return nil, err
	}
	keys := append([]ed25519.PublicKey{g.Key.Public()}, g.Trusted...)
	all := make([]Signed, len(envelopes))
	for i, envelope := range envelopes {
		s, err := Verify(envelope, keys...)
		if err == nil && (s.Digest() != digest || s.Predicate.App != app) {
			err = domain.Errorf(domain.Refused, "the evidence is about another artifact or app")
		}
		all[i] = Signed{Envelope: envelope, Statement: s, Err: err}
	}
	return all, nil
}

// Statements returns what is signed about an app's artifact, in no order. Envelopes that do not verify are left out; they
// are counted in bad.
func (g *Gate) Statements(ctx context.Context, app, digest string) (all []Statement, bad int, err error) {
	list, err := g.Envelopes(ctx, app, digest)
	for _, e := range list {
		if e.Err != nil {
			bad++
			continue
		}
		all = append(all, e.Statement)
	}
	return all, bad, err
}

// Admit refuses an artifact that is missing, altered, or without signed evidence that this server built it for this app
// out of this commit. It returns that evidence.
func (g *Gate) Admit(ctx context.Context, app, commit, digest string) (Stage, error) {
	if err := g.Artifacts.Verify(ctx, digest); err != nil {
		return Stage{}, err
	}
	statements, bad, err := g.Statements(ctx, app, digest)
	if err != nil {
		return Stage{}, err
	}
	other := ""
	for _, s := range statements {
		p := s.Predicate
		if p.Stage != BuildStage || p.Result != ResultPassed {
			continue
		}
		if p.Commit == commit {
			return p, nil
		}
		other = p.Commit
	}
	switch {
	case other != "":
		return Stage{}, domain.Errorf(domain.Refused, "artifact %s was built from %s, not from %s", digest, domain.ShortCommit(other), domain.ShortCommit(commit))
	case bad > 0:
		return Stage{}, domain.Errorf(domain.Refused, "artifact %s has no valid evidence: what is attached was altered or signed by another key", digest).
			WithHint("ship the commit again; it is built and signed here")
	}
	return Stage{}, domain.Errorf(domain.Refused, "artifact %s is unsigned: no evidence says that this server built it for %s", digest, app).
		WithHint("ship the commit again; it is built and signed here")
}

// Details encodes a stage's own result for its evidence.
func Details(v any) (json.RawMessage, error) { return json.Marshal(v) }
