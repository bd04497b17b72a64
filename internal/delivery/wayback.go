package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// wayBackKey is under what a run remembers that it went on without a way back, and why.
const wayBackKey = "no way back"

// wayBackGate: once this delivery serves, could the release before it serve again? Where it could not, somebody has to agree
// to just that, and the first step asks once more.
func (r *run) wayBackGate(ctx context.Context) (domain.Gate, error) {
	slot, err := r.s.ports.Store.Slot(ctx, r.d.App, domain.Production)
	if err != nil {
		return domain.Gate{}, err
	}
	if slot.Stable == "" {
		return passed("the first delivery: there is nothing to go back to"), nil
	}
	stable, err := r.s.ports.Store.Release(ctx, slot.Stable)
	if ctx.Err() != nil {
		return domain.Gate{}, context.Cause(ctx)
	}
	var why string
	switch {
	case err != nil:
		why = fmt.Sprintf("the release that serves cannot be read: %v", err)
	case stable.External != "":
		return passed("to the app at %s, as long as it runs: belay does not start it", stable.External), nil
	default:
		if why, err = r.noWayBack(ctx, stable); err != nil {
			return domain.Gate{}, err
		}
	}
	if why == "" && r.file.Migrations != nil {
		return passed("to %s, which needs nothing from outside; whether it can live with the schema is not known: belay does not migrate production yet", stable.Short()), nil
	}
	if why == "" {
		return passed("to %s, which needs nothing from outside", stable.Short()), nil
	}
	yes, err := r.agreed(ctx, gateWayBack)
	if err != nil {
		return domain.Gate{}, err
	}
	if yes == nil {
		return r.question(ctx, gateWayBack, r.waiver(), fmt.Sprintf("there is no way back: %s: belay approve %d --no-way-back", why, r.d.Number))
	}
	if err := r.remember(ctx, wayBackKey, why); err != nil {
		return domain.Gate{}, err
	}
	g := passed("none: %s; %s goes on without it", why, yes.By)
	g.Given = []domain.Approval{*yes}
	return g, nil
}

// noWayBack says why stable could not serve again after this delivery, "" when it could.
func (r *run) noWayBack(ctx context.Context, stable domain.Release) (string, error) {
	if !r.isLocal(ctx, stable.Digest) {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return stable.Short() + " could not start again: its artifact is not whole on this machine", nil
	}
	slot, err := r.s.ports.Store.Slot(ctx, r.d.App, domain.Staging)
	if err != nil || slot.Stable == "" {
		return "", err
	}
	next, err := r.s.ports.Store.Release(ctx, slot.Stable)
	if err != nil {
		return "", err
	}
	if next.Digest == r.artifact.Digest && next.Schema != stable.Schema {
		return fmt.Sprintf("%s was proven on schema %d and this brings schema %d", stable.Short(), stable.Schema, next.Schema), nil
	}
	return "", nil
}

// localEvery is how often it is tried to make an artifact local that is not: that unpacks all of it.
const localEvery = time.Minute

// isLocal reports whether an artifact can be started without asking anybody. What is unpacked already costs nothing.
func (r *run) isLocal(ctx context.Context, digest string) bool {
	r.preparing.Lock()
	defer r.preparing.Unlock()
	if digest == r.missing && time.Since(r.missingAt) < localEvery {
		return false
	}
	if err := r.s.ports.Runner.Prepare(ctx, digest); err != nil {
		r.s.options.Log.Error("prepare what serves for a rollback", "delivery", r.d.Number, "digest", digest, "error", err)
		r.missing, r.missingAt = digest, time.Now()
		return false
	}
	r.missing = ""
	return true
}

// firstStep returns why the first step in production has to ask, "" when it has not: this delivery has no way back, and nobody
// has said yet that it may go beyond it.
func (l *ladder) firstStep(ctx context.Context) (string, error) {
	var why string
	if found, err := l.run.recall(ctx, wayBackKey, &why); err != nil || !found {
		return "", err
	}
	var beyond bool
	if _, err := l.run.recall(ctx, beyondKey, &beyond); err != nil || beyond {
		return "", err
	}
	return fmt.Sprintf("%s is over, and there is no way back: %s", l.at(), why), nil
}

// beyondKey is under what a run remembers that it may go beyond its first step.
const beyondKey = "beyond the first step"
