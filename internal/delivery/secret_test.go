package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// safeDisk is a store of secrets that survives the lives of the process.
type safeDisk struct {
	mu        sync.Mutex
	versions  []domain.SecretVersion
	values    map[string]string // by place and version; a wiped one is gone
	rotations []domain.Rotation
}

// safeOf is the store as one life of the process sees it.
type safeOf struct {
	*safeDisk
	l *life
}

func (w *world) safeOf(l *life) Safe {
	if w.safe == nil {
		return nil
	}
	return safeOf{w.safe, l}
}

func at(p domain.SecretPlace, version int) string { return fmt.Sprint(p, version) }

func (s safeOf) write(what string, f func()) error {
	if s.l.dead.Load() {
		return errDead
	}
	s.mu.Lock()
	f()
	s.mu.Unlock()
	s.l.op("secret " + what)
	return nil
}

func (s *safeDisk) newest(p domain.SecretPlace) (value string, version int) {
	for _, v := range s.versions {
		if v.SecretPlace == p {
			version = v.Version
		}
	}
	return s.values[at(p, version)], version
}

func (s *safeDisk) resolve(f *config.File, env domain.Environment) (map[string]domain.Secret, map[string]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	values, versions := map[string]domain.Secret{}, map[string]int{}
	for _, name := range f.Secrets.Store {
		value, n := s.newest(domain.SecretPlace{App: "shop", Environment: env, Name: string(name)})
		if n == 0 {
			return nil, nil, domain.Errorf(domain.Refused, "%s is not set in %s", name, env).WithHint("set it")
		}
		values[string(name)], versions[string(name)] = domain.NewSecret(value), n
	}
	return values, versions, nil
}

func (s safeOf) SetSecret(_ context.Context, v domain.SecretVersion, value domain.Secret, r *domain.Rotation) (domain.SecretVersion, bool, error) {
	s.mu.Lock()
	now, n := s.newest(v.SecretPlace)
	s.mu.Unlock()
	if n > 0 && now == value.Reveal() {
		v.Version = n
		return v, true, nil
	}
	v.Version, v.State = n+1, domain.CurrentSecret
	err := s.write("set", func() {
		for i := range s.versions {
			if s.versions[i].SecretPlace == v.SecretPlace && s.versions[i].State == domain.CurrentSecret {
				s.versions[i].State = domain.RetiringSecret
			}
		}
		s.versions = append(s.versions, v)
		s.values[at(v.SecretPlace, v.Version)] = value.Reveal()
		if r != nil {
			r.Version = v.Version
			s.rotations = append(s.rotations, *r)
		}
	})
	return v, false, err
}

func (s safeOf) SecretVersions(_ context.Context, app string) ([]domain.SecretVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(deep(s.versions), func(v domain.SecretVersion) bool { return v.App != app }), nil
}

func (s safeOf) CurrentSecret(_ context.Context, p domain.SecretPlace) (domain.Secret, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, n := s.newest(p)
	if n == 0 {
		return domain.Secret{}, 0, domain.Errorf(domain.NotFound, "%s is not set", p)
	}
	return domain.NewSecret(value), n, nil
}

func (s safeOf) WipeSecret(_ context.Context, v domain.SecretVersion) error {
	return s.write("wipe", func() {
		delete(s.values, at(v.SecretPlace, v.Version))
		for i := range s.versions {
			if s.versions[i].SecretPlace == v.SecretPlace && s.versions[i].Version == v.Version {
				s.versions[i] = deep(v)
			}
		}
	})
}

func (s safeOf) OpenRotations(context.Context) ([]domain.Rotation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.rotations), func(r domain.Rotation) bool { return r.Done }), nil
}

func (s safeOf) SaveRotation(_ context.Context, r domain.Rotation) error {
	return s.write("rotation", func() {
		s.rotations = append(slices.DeleteFunc(s.rotations, func(o domain.Rotation) bool { return o.ID == r.ID }), r)
	})
}

func (s safeOf) SecretSeen(context.Context, domain.SecretPlace, int) (time.Time, error) {
	return time.Time{}, nil
}

func (s safeOf) Inspect(context.Context, string, *config.File, map[domain.Environment]*domain.Release) ([]domain.SecretStatus, []domain.SecretFinding, error) {
	return nil, nil, nil
}

const keyName = "API_KEY"

func keyIn(env domain.Environment) domain.SecretPlace {
	return domain.SecretPlace{App: "shop", Environment: env, Name: keyName}
}

// withSecrets makes a world whose app has one secret, at v1 in both environments.
func withSecrets(t *testing.T) *world {
	w := newWorld(t)
	w.safe = &safeDisk{values: map[string]string{}}
	w.file = strings.Replace(belayYAML, "roles:", "secrets: { store: ["+keyName+"] }\nroles:", 1)
	w.begin()
	return w
}

func (w *world) setKey(env domain.Environment, value string) domain.SecretSet {
	w.t.Helper()
	v := domain.NewSecret(value)
	set, err := w.life.s.SetSecret(w.t.Context(), SecretRequest{SecretPlace: keyIn(env), Value: &v, By: "ana", From: "stdin"})
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

func (w *world) keyVersion(n int) domain.SecretVersion {
	w.safe.mu.Lock()
	defer w.safe.mu.Unlock()
	for _, v := range w.safe.versions {
		if v.SecretPlace == keyIn(domain.Production) && v.Version == n {
			return v
		}
	}
	return domain.SecretVersion{}
}

// holds says which version and which value each release of production has, oldest first.
func (w *world) holds() (list []string) {
	releases, err := storeOf{w.disk, w.life}.Releases(context.WithoutCancel(w.t.Context()), "shop", domain.Production, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range slices.Backward(releases) {
		list = append(list, fmt.Sprintf("v%d %s", r.Secrets[keyName], r.Workloads[0].Env[keyName]))
	}
	return list
}

func TestUnsetSecretsStopADeliveryBeforeItsBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withSecrets(t)
		defer func() { w.life.end() }()
		w.setKey(domain.Staging, "one")
		_, err := w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("a"), By: "ana"})
		if domain.CodeOf(err) != domain.Refused || !strings.Contains(err.Error(), "production") {
			t.Errorf("%v", err)
		}
		if _, err := w.life.s.Delivery(t.Context(), "shop", 1); err == nil {
			t.Error("a delivery was stored")
		}
	})
}

func TestRotateKeepsTheVersionBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withSecrets(t)
		defer func() { w.life.end() }()
		w.setKey(domain.Staging, "staging-1")
		w.setKey(domain.Production, "one")
		w.done("a")
		if set := w.setKey(domain.Production, "two"); set.Sentence != "stored: shop production API_KEY v2; in use: v1" {
			t.Error(set.Sentence)
		}
		r, err := w.life.s.RotateSecret(t.Context(), SecretRequest{SecretPlace: keyIn(domain.Production), By: "ana"})
		if err != nil {
			t.Fatal(err)
		}
		if d := w.await(r.Delivery.Number); d.State != domain.DoneState || d.Commit != sha("a") {
			t.Fatalf("%s %s", d.State, d.Commit)
		}
		time.Sleep(3 * time.Minute) // what nothing uses would be wiped by now
		if got := w.holds(); !slices.Equal(got, []string{"v1 one", "v2 two"}) || w.keyVersion(1).State != domain.RetiringSecret {
			t.Errorf("%v, v1 is %s", got, w.keyVersion(1).State)
		}
		if _, err := w.life.s.RotateSecret(t.Context(), SecretRequest{SecretPlace: keyIn(domain.Production), By: "ana"}); domain.CodeOf(err) != domain.Refused {
			t.Errorf("nothing to rotate: %v", err)
		}
		list, err := w.life.s.SecretHistory(t.Context(), "shop", keyName)
		if err != nil || len(list) != 3 || len(list[1].Releases) != 1 || list[1].State != domain.RetiringSecret {
			t.Errorf("%+v %v", list, err)
		}
		res, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"})
		if err != nil || strings.Contains(res.Sentence, "revoked") {
			t.Errorf("%+v %v", res, err)
		}
	})
}

// A value that was set and never reached a release is wiped when the next one is there.
func TestRetiredValuesAreWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withSecrets(t)
		defer func() { w.life.end() }()
		w.setKey(domain.Staging, "staging-1")
		w.setKey(domain.Production, "one")
		w.done("a")
		w.setKey(domain.Production, "two")
		w.setKey(domain.Production, "three")
		w.until("v2 is wiped", func() bool { return w.keyVersion(2).State == domain.RetiredSecret })
		w.safe.mu.Lock()
		defer w.safe.mu.Unlock()
		if len(w.safe.values) != 3 || w.safe.values[at(keyIn(domain.Production), 1)] != "one" {
			t.Errorf("kept: %v", w.safe.values)
		}
	})
}

// revoking rotates with --revoke, and dies after the crashAt-th effect; 0 is never. It says how many effects there were.
func revoking(t *testing.T, crashAt int, hard bool) (effects int) {
	synctest.Test(t, func(t *testing.T) {
		w := withSecrets(t)
		defer func() { w.life.end() }()
		w.setKey(domain.Staging, "staging-1")
		w.setKey(domain.Production, "one")
		w.done("a")
		w.done("b")
		first, err := storeOf{w.disk, w.life}.Slot(t.Context(), "shop", domain.Production)
		if err != nil {
			t.Fatal(err)
		}
		w.life.arm(crashAt, hard)
		began, crashed := w.life.ops.Load(), w.life
		two := domain.NewSecret("two")
		for range 3 {
			_, err = w.life.s.RotateSecret(t.Context(), SecretRequest{SecretPlace: keyIn(domain.Production), Value: &two, By: "ana", Revoke: true})
			if err == nil || w.keyVersion(2).Version == 2 {
				break // what is stored goes on by itself
			}
			w.revive()
		}
		w.till("v1 is revoked", func() bool { return w.keyVersion(1).State == domain.RevokedSecret })
		w.till("the rotation is over", func() bool {
			open, err := safeOf{w.safe, w.life}.OpenRotations(t.Context())
			return err == nil && len(open) == 0
		})
		effects = int(w.life.ops.Load() - began)
		for _, held := range w.holds() {
			if held != "v2 two" {
				t.Errorf("after %q: a release has %s", crashed.last, held)
			}
		}
		v1 := w.keyVersion(1)
		if !slices.Contains(v1.Releases, first.Stable) || !slices.Contains(v1.Releases, first.Previous) || v1.Ended == nil {
			t.Errorf("after %q: v1 was in %v, want %s and %s", crashed.last, v1.Releases, first.Stable, first.Previous)
		}
		w.safe.mu.Lock()
		if _, ok := w.safe.values[at(keyIn(domain.Production), 1)]; ok {
			t.Errorf("after %q: v1 is not wiped", crashed.last)
		}
		w.safe.mu.Unlock()
		w.till("the delivery is over", func() bool { return w.final(3) && w.life.s.find("shop", 3) == nil })
		if list, err := (storeOf{w.disk, w.life}).Deliveries(t.Context(), "shop", 0); err != nil || len(list) != 3 {
			t.Errorf("after %q: %d deliveries", crashed.last, len(list))
		}
		res, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"})
		if err != nil || !strings.Contains(res.Sentence, "API_KEY v1 was revoked: it has v2") {
			t.Errorf("after %q: rolled back with %q %v", crashed.last, res.Sentence, err)
		}
	})
	return effects
}

// TestRevokeSurvivesCrashes kills the process after every effect of a revocation, and demands that every release has the new
// value and none the old one, once. Those of the delivery in the middle are killed everywhere by another test.
func TestRevokeSurvivesCrashes(t *testing.T) {
	t.Parallel()
	effects := revoking(t, 0, false)
	for _, hard := range []bool{false, true} {
		for n := 1; n <= effects; n += stride {
			if n > 8 && n < effects-16 && n%10 != 0 {
				continue
			}
			t.Run(fmt.Sprintf("hard=%t/%d", hard, n), func(t *testing.T) { revoking(t, n, hard) })
		}
	}
}

// A revocation whose delivery fails waits, says so, and is done by the next delivery.
func TestRevokeWaitsForADelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withSecrets(t)
		defer func() { w.life.end() }()
		w.setKey(domain.Staging, "staging-1")
		w.setKey(domain.Production, "one")
		w.done("a")
		two := domain.NewSecret("two")
		w.red[sha("a")] = "production check"
		r, err := w.life.s.RotateSecret(t.Context(), SecretRequest{SecretPlace: keyIn(domain.Production), Value: &two, By: "ana", Revoke: true})
		if err != nil {
			t.Fatal(err)
		}
		if d := w.await(r.Delivery.Number); d.State != domain.FailedState {
			t.Fatal(d.State)
		}
		report, err := w.life.s.Secrets(t.Context(), "shop")
		if err != nil || len(report.Findings) != 1 || report.Findings[0].ID != "revoking" || !strings.Contains(report.Findings[0].Message, "production still runs with v1") {
			t.Errorf("%+v %v", report.Findings, err)
		}
		if v := w.keyVersion(1); v.State != domain.RetiringSecret {
			t.Errorf("v1 is %s while production has it", v.State)
		}
		w.done("b")
		w.till("v1 is revoked", func() bool { return w.keyVersion(1).State == domain.RevokedSecret })
	})
}

// Nothing that somebody else said reaches a record or an event with a value in it.
func TestRecordsAndEventsAreMasked(t *testing.T) {
	s := &Service{ports: Ports{Mask: func(_, text string) string { return strings.ReplaceAll(text, "hunter2", "[redacted]") }}}
	d := domain.Delivery{Stages: []domain.StageRecord{{Summary: "hunter2", Notes: []string{"hunter2"}, Steps: []domain.StepRecord{{Message: "hunter2", Verdict: "hunter2"}},
		Levels: []domain.LevelRecord{{Reason: "hunter2", Warnings: []string{"hunter2"}}}, Checks: []domain.CheckRecord{{Message: "hunter2"}}}},
		Wait: &domain.Wait{Reason: "hunter2"}, Outcome: &domain.Outcome{Sentence: "hunter2", Hint: "hunter2"},
		Gates: []domain.Gate{{Detail: "hunter2"}}, Checklist: []domain.CheckItem{{Detail: "hunter2"}}}
	s.maskDelivery(&d)
	e := domain.Event{App: "shop", Data: map[string]any{"summary": "a hunter2 b", "list": []string{"hunter2"}, "n": 1}}
	s.maskEvent(&e)
	failed := s.maskError("shop", domain.Errorf(domain.RolledBack, "it said hunter2"))
	if failed.Error() != "it said [redacted]" || domain.CodeOf(failed) != domain.RolledBack {
		t.Errorf("%v, %s", failed, domain.CodeOf(failed))
	}
	if text := fmt.Sprintf("%+v %+v %+v %+v", d, *d.Wait, *d.Outcome, e); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
}
