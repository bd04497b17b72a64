package delivery

import (
	"context"

	"github.com/belay-cd/belay/internal/domain"
)

// attest signs what was seen of the i-th stage, over the artifact's digest. Before production nothing goes on without it;
// later its loss is told and takes nothing back: what the users have does not depend on a record.
func (r *run) attest(ctx context.Context, i int, summary string, passed bool) error {
	d := r.snapshot()
	if d.Digest == "" {
		return nil
	}
	stage := Stages[i].Name
	row := d.Stages[i]
	row.Summary, row.State = summary, domain.DoneState
	if !passed {
		row.State = domain.FailedState
	}
	found := StageEvidence{StageRecord: row}
	if stage == domain.DeployProduction {
		found.Gates, found.Checklist, found.Loosened = d.Gates, d.Checklist, d.Loosened
	}
	err := r.s.ports.Builder.Attest(context.WithoutCancel(ctx), d, found)
	if err == nil || i < productionStage {
		return err
	}
	r.s.options.Log.Error("sign what was seen of a stage", "delivery", d.Number, "stage", stage, "error", err)
	r.event(ctx, domain.Event{Type: "evidence.missing", Stage: stage, Data: map[string]any{"reason": err.Error()}})
	return nil
}

// productionStage is the row of Deploy production.
const productionStage = 4

// StageEvidence is what is signed about one stage: its row as it was shown. That of Deploy production says what let the
// delivery in.
type StageEvidence struct {
	domain.StageRecord
	Gates     []domain.Gate      `json:"gates,omitempty"`
	Checklist []domain.CheckItem `json:"checklist,omitempty"`
	Loosened  []string           `json:"loosened,omitempty"`
}

// Evidence returns everything that is signed about a delivery, to be verified anywhere.
func (s *Service) Evidence(ctx context.Context, app string, number int) (domain.Evidence, error) {
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return domain.Evidence{}, err
	}
	e := domain.Evidence{App: d.App, Delivery: d.Number, Commit: d.Commit, Digest: d.Digest, State: d.State}
	if d.Digest == "" {
		return e, domain.Errorf(domain.NotFound, "nothing is signed about #%d: it has no artifact yet", d.Number).
			WithHint("evidence is about an artifact's digest; it begins when the build is done")
	}
	e.PublicKey, e.Envelopes, err = s.ports.Builder.Evidence(ctx, d)
	return e, err
}
