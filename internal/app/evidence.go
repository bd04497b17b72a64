package app

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/evidence"
)

// Admit refuses what this server did not build, or what is no longer as it was.
func (b *builder) Admit(ctx context.Context, app, commit, digest string) error {
	_, err := b.gate.Admit(ctx, app, commit, digest)
	return err
}

// Attest signs what a stage found.
func (b *builder) Attest(ctx context.Context, d domain.Delivery, found delivery.StageEvidence) error {
	details, err := evidence.Details(found)
	if err != nil {
		return err
	}
	result := evidence.ResultPassed
	if found.State != domain.DoneState {
		result = evidence.ResultFailed
	}
	began := time.Now().UTC()
	if found.Started != nil {
		began = *found.Started
	}
	return b.gate.Record(ctx, d.Digest, evidence.Stage{
		App: d.App, Commit: d.Commit, Delivery: d.Number, Stage: string(found.Name), Result: result,
		Began: began, Ended: time.Now().UTC(), Details: details,
	})
}

// Evidence returns what is signed about one delivery, in the order in which it was signed.
func (b *builder) Evidence(ctx context.Context, d domain.Delivery) (publicKey string, envelopes []string, err error) {
	all, err := b.gate.Envelopes(ctx, d.App, d.Digest)
	if err != nil {
		return "", nil, err
	}
	all = slices.DeleteFunc(all, func(e evidence.Signed) bool { return e.Statement.Predicate.Delivery != d.Number })
	slices.SortStableFunc(all, func(a, b evidence.Signed) int {
		return cmp.Compare(a.Statement.Predicate.Ended.UnixNano(), b.Statement.Predicate.Ended.UnixNano())
	})
	for _, e := range all {
		envelopes = append(envelopes, string(e.Envelope))
	}
	return string(b.gate.Key.PublicPEM()), envelopes, nil
}
