package delivery

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// An app that runs already is taken over by its first delivery: what runs becomes the stable release of production, served
// through the proxy at once, and the delivery replaces it like any other. Belay sends it traffic, and never touches its
// process.

// externalCommit stands where a release has its commit: nobody knows that of a running app.
const externalCommit = "outside"

// externalKey is where the id of the taken over release is stored before its delivery is.
const externalKey = "external"

// Takeover admits running apps.
type Takeover interface {
	// Address returns host:port of the URL of a running app. It refuses what cannot be taken over.
	Address(url string) (string, error)
	// Register lets the driver know the release of a running app: from then on it is started, stopped and listed like any.
	Register(rel domain.Release)
}

// admitFrom refuses to take over where something is stable already, or where nothing answers. It returns the id under which
// the driver knows the running app from now on, "" when none is taken over.
func (s *Service) admitFrom(ctx context.Context, f *config.File, url string) (string, error) {
	if url == "" {
		return "", nil
	}
	slot, err := s.ports.Store.Slot(ctx, string(f.App), domain.Production)
	if err != nil {
		return "", err
	}
	if slot.Stable != "" {
		stable, err := s.ports.Store.Release(ctx, slot.Stable)
		if err != nil {
			return "", err
		}
		if addr, err := s.ports.Takeover.Address(url); err == nil && addr == stable.External {
			return slot.Stable, nil // the same request again, or a second try of the first delivery
		}
		return "", domain.Errorf(domain.Invalid, "--from: %s has a stable release in production already", f.App).
			WithHint("it is for the first delivery only: ship without it")
	}
	rel, err := s.external(f, url)
	if err != nil {
		return "", err
	}
	if err := s.answers(ctx, rel); err != nil {
		return "", domain.Errorf(domain.Invalid, "--from %s: it cannot be taken over: %w", url, err).WithHint("the app must run, and answer its probe, before it is taken over")
	}
	return rel.ID, nil
}

// answers asks a running app once, through the driver.
func (s *Service) answers(ctx context.Context, rel domain.Release) error {
	s.ports.Takeover.Register(rel)
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	_, err := s.ports.Runner.Start(ctx, rollout.InstanceOf(&rel, rel.Workloads[0].Role, 0))
	return err
}

// answersWithin is how long a running app has to answer.
const answersWithin = 10 * time.Second

// external describes a running app as a release.
func (s *Service) external(f *config.File, url string) (domain.Release, error) {
	addr, err := s.ports.Takeover.Address(url)
	if err != nil {
		return domain.Release{}, err
	}
	rel := domain.Release{ID: domain.NewID("rel_"), App: string(f.App), Environment: domain.Production, Commit: externalCommit,
		External: addr, Created: *now()}
	for _, w := range workloads(f, domain.Production) {
		if w.Kind == domain.Web {
			w.Instances, w.Env, w.Secrets = 1, nil, nil
			rel.Workloads = append(rel.Workloads, w)
		}
	}
	if len(rel.Workloads) != 1 {
		return rel, domain.Errorf(domain.Invalid, "--from: one URL stands for one role with hosts, %s has %d", f.App, len(rel.Workloads)).
			WithHint("ship without it, and point your traffic at the proxy when the first delivery is done")
	}
	return rel, nil
}

// takeOver makes the running app the stable release of production, once, before anything is built: from then on the traffic
// may come through the proxy.
func (r *run) takeOver(ctx context.Context) error {
	if r.d.From == "" {
		return nil
	}
	rel, err := r.s.external(r.file, r.d.From)
	if err != nil {
		return err
	}
	if _, err := r.recall(ctx, externalKey, &rel.ID); err != nil {
		return err
	}
	slot, err := r.s.ports.Store.Slot(ctx, r.d.App, domain.Production)
	if err != nil || slot.Stable != "" && slot.Stable != rel.ID {
		return err // this delivery, or another, has replaced it since
	}
	if roll := r.rolloutIn(domain.Production); roll != nil {
		return nil // its rollout is open: the traffic is the rollout's
	}
	r.s.ports.Takeover.Register(rel)
	if slot.Stable == rel.ID {
		return r.s.ports.Traffic.Split(ctx, rollout.Split{App: r.d.App, Environment: domain.Production, Stable: &rel})
	}
	if err := r.s.ports.Store.SaveRelease(ctx, rel); err != nil {
		return err
	}
	slot.App, slot.Environment, slot.Stable, slot.Since = r.d.App, domain.Production, rel.ID, *now()
	if err := r.s.ports.Store.SaveSlot(ctx, slot); err != nil {
		return err
	}
	if err := r.s.ports.Traffic.Split(ctx, rollout.Split{App: r.d.App, Environment: domain.Production, Stable: &rel}); err != nil {
		return err
	}
	r.event(ctx, domain.Event{Type: "rollout.taken_over", Environment: domain.Production,
		Data: map[string]any{"sentence": "the app at " + rel.External + " is stable now: its traffic may come through the proxy"}})
	return nil
}
