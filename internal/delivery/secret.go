package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// Safe is Belay's own store of secrets. No value comes out of it but into a release.
type Safe interface {
	// SetSecret stores a value as the next version, together with the rotation that it begins. A value that is the current
	// one already is not stored again.
	SetSecret(ctx context.Context, v domain.SecretVersion, value domain.Secret, r *domain.Rotation) (stored domain.SecretVersion, unchanged bool, err error)
	// SecretVersions lists what was set for an app; app "" lists the channels of the server.
	SecretVersions(ctx context.Context, app string) ([]domain.SecretVersion, error)
	// CurrentSecret returns the newest value of a place.
	CurrentSecret(ctx context.Context, p domain.SecretPlace) (domain.Secret, int, error)
	WipeSecret(ctx context.Context, v domain.SecretVersion) error
	OpenRotations(ctx context.Context) ([]domain.Rotation, error)
	SaveRotation(ctx context.Context, r domain.Rotation) error
	// SecretSeen says when a version of another provider was seen first.
	SecretSeen(ctx context.Context, p domain.SecretPlace, version int) (time.Time, error)
	// Inspect reads what a release of the file would get now, without giving it numbers. It says of each secret where it is
	// set, and what is wrong with the values. stable are the releases that run: their values stand for what is not read
	// for a mere look.
	Inspect(ctx context.Context, app string, f *config.File, stable map[domain.Environment]*domain.Release) ([]domain.SecretStatus, []domain.SecretFinding, error)
}

// SecretRequest asks to set or to rotate a secret.
type SecretRequest struct {
	domain.SecretPlace
	Value *domain.Secret // nil: rotate to the newest version that was set
	By    string
	From  string // prompt, stdin or file
	// Revoke takes the versions before from every release, and wipes them.
	Revoke bool
}

// RotationResult is what a rotation has begun.
type RotationResult struct {
	domain.SecretSet
	// Delivery takes the value into production or staging; nil: nothing runs there.
	Delivery *domain.Delivery `json:"delivery,omitempty"`
}

// SetSecret stores a value. What runs goes on with the version that it has.
func (s *Service) SetSecret(ctx context.Context, q SecretRequest) (domain.SecretSet, error) {
	if err := s.mayHold(q.SecretPlace); err != nil {
		return domain.SecretSet{}, err
	}
	if q.Value == nil {
		return domain.SecretSet{}, domain.Errorf(domain.Invalid, "secret %s: no value", q.SecretPlace)
	}
	return s.storeSecret(ctx, q, nil)
}

// mayHold refuses places that nothing could read. An app need not be known yet: its first delivery needs its secrets.
func (s *Service) mayHold(p domain.SecretPlace) error {
	if s.ports.Safe == nil {
		return domain.Errorf(domain.Unavailable, "this server keeps no secrets")
	}
	if err := p.Valid(); err != nil {
		return err
	}
	if p.App != "" && !appName.MatchString(p.App) {
		return domain.Errorf(domain.Invalid, "app %q: not a name", p.App).WithHint("[a-z][a-z0-9-]*, at most 40")
	}
	return nil
}

func (s *Service) storeSecret(ctx context.Context, q SecretRequest, r *domain.Rotation) (domain.SecretSet, error) {
	v := domain.SecretVersion{SecretPlace: q.SecretPlace, By: q.By, From: q.From, Set: *now()}
	stored, unchanged, err := s.ports.Safe.SetSecret(ctx, v, *q.Value, r)
	if err != nil {
		return domain.SecretSet{}, err
	}
	set := domain.SecretSet{SecretVersion: stored, Unchanged: unchanged}
	if set.InUse, err = s.secretInUse(ctx, q.SecretPlace); err != nil {
		return set, err
	}
	set.Sentence = setSentence(set)
	if !unchanged {
		s.emit(ctx, domain.Event{Type: "secret.set", App: q.App, Environment: q.Environment, By: q.By,
			Data: map[string]any{"name": q.Name, "version": stored.Version, "from": q.From, "sentence": set.Sentence}})
	}
	return set, nil
}

// secretInUse returns the version that the stable release of the place's environment has; 0: none.
func (s *Service) secretInUse(ctx context.Context, p domain.SecretPlace) (int, error) {
	rel, err := s.stableOf(ctx, p.App, p.Environment)
	if err != nil || rel == nil {
		return 0, err
	}
	return rel.Secrets[p.Name], nil
}

// stableOf returns the stable release of an environment; nil where nothing runs.
func (s *Service) stableOf(ctx context.Context, app string, env domain.Environment) (*domain.Release, error) {
	if app == "" || !env.Valid() {
		return nil, nil
	}
	slot, err := s.ports.Store.Slot(ctx, app, env)
	if err != nil || slot.Stable == "" {
		return nil, err
	}
	rel, err := s.ports.Store.Release(ctx, slot.Stable)
	return &rel, err
}

func setSentence(set domain.SecretSet) string {
	if set.Unchanged {
		return fmt.Sprintf("unchanged: %s v%d has this value already", set.SecretPlace, set.Version)
	}
	text := fmt.Sprintf("stored: %s v%d", set.SecretPlace, set.Version)
	if set.InUse > 0 {
		text += fmt.Sprintf("; in use: v%d", set.InUse)
	}
	return text
}

// RotateSecret sets a value, or takes the newest that was set, and delivers what is stable in the environment again with it,
// through all seven stages. The wish is stored with the value: it goes on after a restart.
func (s *Service) RotateSecret(ctx context.Context, q SecretRequest) (RotationResult, error) {
	if err := s.mayHold(q.SecretPlace); err != nil {
		return RotationResult{}, err
	}
	if !q.Environment.Valid() {
		return RotationResult{}, domain.Errorf(domain.Invalid, "not rotated: %s is in no release", q.SecretPlace).
			WithHint("%s: the next build or message gets it", q.SetCommand())
	}
	if open, err := s.rotationOf(ctx, q.SecretPlace); err != nil {
		return RotationResult{}, err
	} else if open != nil && open.Delivery == 0 {
		return RotationResult{}, domain.Errorf(domain.Conflict, "%s is being rotated to v%d already", q.SecretPlace, open.Version)
	}
	r, err := s.newRotation(ctx, q)
	if err != nil {
		return RotationResult{}, err
	}
	result := RotationResult{}
	if result.SecretSet, err = s.beginRotation(ctx, q, r); err != nil || r == nil {
		return result, err
	}
	if r.Version == 0 { // the value was the current one already: nothing was stored with it
		r.Version = result.Version
		if err := s.ports.Safe.SaveRotation(ctx, *r); err != nil {
			return result, err
		}
	}
	s.emit(ctx, domain.Event{Type: "secret.rotating", App: q.App, Environment: q.Environment, By: q.By,
		Data: map[string]any{"name": q.Name, "version": r.Version, "revoke": q.Revoke}})
	d, err := s.deliverRotation(ctx, r)
	if err != nil {
		return result, err
	}
	result.Delivery = &d
	return result, nil
}

// newRotation says what would be delivered; nil where nothing runs.
func (s *Service) newRotation(ctx context.Context, q SecretRequest) (*domain.Rotation, error) {
	rel, err := s.stableOf(ctx, q.App, q.Environment)
	if err != nil || rel == nil || rel.Commit == "" {
		return nil, err
	}
	d, err := s.ports.Store.Delivery(ctx, q.App, rel.Delivery)
	if err != nil {
		return nil, err
	}
	file, err := s.fileOf(ctx, q.App, rel.Delivery)
	if err != nil {
		return nil, err
	}
	if file == nil || !slices.Contains(file.Secrets.Store, config.Var(q.Name)) {
		return nil, domain.Errorf(domain.Refused, "not rotated: the release in %s has no secret %s of the store", q.Environment, q.Name).
			WithHint("name it under secrets.store and ship; %s only stores it", q.SetCommand())
	}
	return &domain.Rotation{ID: domain.NewID("rot_"), SecretPlace: q.SecretPlace, By: q.By, Revoke: q.Revoke, At: *now(),
		Commit: rel.Commit, Folder: d.Folder}, nil
}

// beginRotation stores the value, or finds the one to take.
func (s *Service) beginRotation(ctx context.Context, q SecretRequest, r *domain.Rotation) (domain.SecretSet, error) {
	if q.Value != nil {
		set, err := s.storeSecret(ctx, q, r)
		if err == nil && set.Unchanged && set.InUse == set.Version && !q.Revoke {
			err = domain.Errorf(domain.Refused, "not rotated: %s v%d has this value, and is in use", q.SecretPlace, set.Version).
				WithHint("give another value")
		}
		return set, err
	}
	_, version, err := s.ports.Safe.CurrentSecret(ctx, q.SecretPlace)
	if err != nil {
		return domain.SecretSet{}, err
	}
	set := domain.SecretSet{SecretVersion: domain.SecretVersion{SecretPlace: q.SecretPlace, Version: version, State: domain.CurrentSecret}}
	if set.InUse, err = s.secretInUse(ctx, q.SecretPlace); err != nil {
		return set, err
	}
	if set.InUse == version && !q.Revoke {
		return set, domain.Errorf(domain.Refused, "not rotated: %s v%d is in use already", q.SecretPlace, version).
			WithHint("give a new value, at the prompt or with --file")
	}
	set.Sentence = fmt.Sprintf("%s: v%d takes over from v%d", q.SecretPlace, version, set.InUse)
	return set, nil
}

// deliverRotation hands the commit over. The key makes a repetition answer with the first delivery.
func (s *Service) deliverRotation(ctx context.Context, r *domain.Rotation) (domain.Delivery, error) {
	d, err := s.Ship(ctx, Submission{App: r.App, Commit: r.Commit, Folder: r.Folder, By: r.By, Key: "rotate/" + r.ID})
	if err != nil {
		if refusedForGood(err) { // asking again would be answered the same; a revocation waits for the next delivery
			r.Refused, r.Done = err.Error(), !r.Revoke
			err = errors.Join(err, s.ports.Safe.SaveRotation(ctx, *r))
		}
		return d, err
	}
	r.Delivery = d.Number
	r.Done = !r.Revoke
	return d, s.ports.Safe.SaveRotation(ctx, *r)
}

func refusedForGood(err error) bool {
	switch domain.CodeOf(err) {
	case domain.Invalid, domain.NotFound, domain.Refused, domain.Conflict, domain.Denied:
		return true
	default:
		return false
	}
}

func (s *Service) rotationOf(ctx context.Context, p domain.SecretPlace) (*domain.Rotation, error) {
	open, err := s.ports.Safe.OpenRotations(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range open {
		if r.SecretPlace == p {
			return &r, nil
		}
	}
	return nil, nil
}

// admitSecrets refuses a file whose secrets cannot be read for both environments and the build, before anything is built.
func (s *Service) admitSecrets(ctx context.Context, app string, f *config.File) error {
	var said, hints []string
	for _, env := range domain.Environments {
		_, _, err := s.ports.Secrets.Resolve(ctx, app, f, env)
		switch {
		case err == nil:
		case domain.CodeOf(err) == domain.Refused:
			said, hints = append(said, err.Error()), append(hints, domain.HintOf(err))
		default:
			return err
		}
	}
	for _, name := range f.Build.Secrets {
		p := domain.SecretPlace{App: app, Environment: domain.BuildSecrets, Name: string(name)}
		if s.ports.Safe == nil {
			break
		}
		if _, _, err := s.ports.Safe.CurrentSecret(ctx, p); err != nil {
			said, hints = append(said, err.Error()), append(hints, domain.HintOf(err))
		}
	}
	if len(said) == 0 {
		return nil
	}
	slices.Sort(hints)
	return domain.Errorf(domain.Refused, "%s", strings.Join(said, "; ")).WithHint("%s", strings.Join(slices.Compact(hints), "; "))
}
