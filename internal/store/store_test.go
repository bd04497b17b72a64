package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/store"
)

// xorSealer is a sealer whose sealed values do not show the plain ones, and that refuses a value moved elsewhere.
type xorSealer struct{}

func flip(b []byte) []byte {
	out := slices.Clone(b)
	for i := range out {
		out[i] ^= 0xa5
	}
	return out
}

func (xorSealer) Seal(plain []byte, aad string) ([]byte, error) {
	return append(append([]byte(aad), 0), flip(plain)...), nil
}

func (xorSealer) Open(sealed []byte, aad string) ([]byte, error) {
	place, value, _ := bytes.Cut(sealed, []byte{0})
	if string(place) != aad {
		return nil, errors.New("sealed for another place")
	}
	return flip(value), nil
}

func open(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path, xorSealer{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func fresh(t testing.TB) *store.Store {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "belay.db"))
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code domain.Code) {
	t.Helper()
	if err == nil || domain.CodeOf(err) != code {
		t.Fatalf("error %v: want code %s", err, code)
	}
}

func create(t testing.TB, s *store.Store, app, key string) domain.Delivery {
	t.Helper()
	d, _, err := s.CreateDelivery(t.Context(), domain.Delivery{App: app, State: domain.Running}, key)
	ok(t, err)
	return d
}

func TestOpenSurvivesOddPathsAndIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%20e.db")
	s := open(t, path)
	create(t, s, "shop", "")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		ok(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s%s: mode %v, others may read it", path, suffix, info.Mode())
		}
	}
	if size := must(s.Size())(t); size == 0 {
		t.Error("size 0")
	}
	ok(t, s.Close())
	if d := must(open(t, path).Delivery(t.Context(), "shop", 0))(t); d.Number != 1 {
		t.Errorf("after opening again: %+v", d)
	}
}

func TestDeliveries(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	_, err := s.Delivery(ctx, "shop", 0)
	wantCode(t, err, domain.NotFound)
	first, second, other := create(t, s, "shop", "k1"), create(t, s, "shop", "k2"), create(t, s, "blog", "k1")
	if first.Number != 1 || second.Number != 2 || other.Number != 1 || first.ID >= second.ID || first.ID[:4] != "dly_" {
		t.Fatalf("numbers and ids: %+v %+v %+v", first, second, other)
	}
	again, created, err := s.CreateDelivery(ctx, domain.Delivery{App: "shop", Commit: "x"}, "k1")
	ok(t, err)
	if created || again.ID != first.ID {
		t.Fatalf("same key: created %v, %+v", created, again)
	}
	first.State = domain.FailedState
	ok(t, s.SaveDelivery(ctx, first))
	wantCode(t, s.SaveDelivery(ctx, domain.Delivery{App: "shop", Number: 9}), domain.NotFound)
	if d := must(s.Delivery(ctx, "shop", 1))(t); d.State != domain.FailedState {
		t.Errorf("saved state: %s", d.State)
	}
	active := must(s.ActiveDeliveries(ctx))(t)
	if len(active) != 2 || active[0].ID != second.ID || active[1].ID != other.ID {
		t.Errorf("active: %+v", active)
	}
	if list := must(s.Deliveries(ctx, "shop", 1))(t); len(list) != 1 || list[0].Number != 2 {
		t.Errorf("newest: %+v", list)
	}
	if apps := must(s.Apps(ctx))(t); !slices.Equal(apps, []string{"blog", "shop"}) {
		t.Errorf("apps: %v", apps)
	}
}

func TestAnAppBelongsToOneRepository(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	create(t, s, "shop", "") // known before its repository is
	ok(t, s.EnsureApp(ctx, "shop", "aaaaaaaaaa"))
	ok(t, s.EnsureApp(ctx, "shop", "aaaaaaaaaa"))
	err := s.EnsureApp(ctx, "shop", "bbbbbbbbbb")
	wantCode(t, err, domain.Conflict)
	if m := err.Error(); !strings.Contains(m, "aaaaaaa") || !strings.Contains(m, "bbbbbbb") {
		t.Errorf("both repositories are named: %s", m)
	}
}

func TestReleasesKeepSecretsSealed(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "belay.db")
	s := open(t, path)
	r := domain.Release{ID: "rel_1", App: "shop", Environment: domain.Production, Secrets: map[string]int{"PASSWORD": 3}, Workloads: []domain.Workload{
		{Role: "web", Env: map[string]string{"PASSWORD": "tr0ub4dor&3", "LEVEL": "plainly visible"}, Secrets: []string{"PASSWORD"}},
		{Role: "worker", Env: map[string]string{"PASSWORD": "tr0ub4dor&3"}, Secrets: []string{"PASSWORD", "ABSENT"}},
	}}
	ok(t, s.SaveRelease(ctx, r))
	if r.Workloads[0].Env["PASSWORD"] == "" {
		t.Error("the given release was changed")
	}
	ok(t, s.SetHold(ctx, "shop", domain.Hold{Reason: "rolled back", Bad: r}))
	ok(t, s.SaveRelease(ctx, domain.Release{ID: "rel_2", App: "shop", Environment: domain.Production}))
	got := must(s.Release(ctx, "rel_1"))(t)
	if !got.Same(r) || got.Workloads[0].Env["PASSWORD"] != "tr0ub4dor&3" || got.Workloads[1].Env["PASSWORD"] != "tr0ub4dor&3" {
		t.Errorf("read back: %+v", got)
	}
	list := must(s.Releases(ctx, "shop", domain.Production, 0))(t)
	if len(list) != 2 || list[0].ID != "rel_2" || list[1].Workloads[0].Env["PASSWORD"] != "tr0ub4dor&3" {
		t.Errorf("releases: %+v", list)
	}
	if h := must(s.Hold(ctx, "shop"))(t); h == nil || !h.Bad.Same(r) {
		t.Errorf("hold: %+v", h)
	}
	ok(t, s.ClearHold(ctx, "shop"))
	if h := must(s.Hold(ctx, "shop"))(t); h != nil {
		t.Errorf("hold after it was lifted: %+v", h)
	}
	_, err := s.Release(ctx, "rel_9")
	wantCode(t, err, domain.NotFound)
	ok(t, s.Backup(ctx, path+".copy"))
	wantCode(t, s.Backup(ctx, path+".copy"), domain.Conflict)
	visible := false
	for _, file := range []string{path, path + "-wal", path + ".copy"} {
		content := must(os.ReadFile(file))(t)
		visible = visible || bytes.Contains(content, []byte("plainly visible"))
		if bytes.Contains(content, []byte("tr0ub4dor")) {
			t.Errorf("%s holds the secret", filepath.Base(file))
		}
	}
	if !visible {
		t.Error("the search finds nothing at all")
	}
	if d := must(open(t, path+".copy").Release(ctx, "rel_1"))(t); d.ID != "rel_1" {
		t.Errorf("backup: %+v", d)
	}
}

func TestWithoutAKeyNoSecretIsStored(t *testing.T) {
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "belay.db"), nil)
	ok(t, err)
	t.Cleanup(func() { _ = s.Close() })
	r := domain.Release{ID: "rel_1", Workloads: []domain.Workload{{Env: map[string]string{"A": "b"}, Secrets: []string{"A"}}}}
	wantCode(t, s.SaveRelease(t.Context(), r), domain.Refused)
}

func TestSecretVersionGrowsWithTheFingerprint(t *testing.T) {
	s := fresh(t)
	for i, step := range []struct {
		fingerprint string
		want        int
	}{{"a", 1}, {"a", 1}, {"b", 2}, {"a", 3}, {"a", 3}} {
		if v := must(s.SecretVersion(t.Context(), "shop", domain.Staging, "KEY", step.fingerprint))(t); v != step.want {
			t.Errorf("step %d: version %d, want %d", i, v, step.want)
		}
	}
	if v := must(s.SecretVersion(t.Context(), "shop", domain.Production, "KEY", "b"))(t); v != 1 {
		t.Errorf("other environment: %d", v)
	}
}

// A third release during a rollout took down one that had traffic.
func TestScar_argo_3617(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	record := domain.RolloutRecord{App: "shop", Environment: domain.Production, State: domain.RolloutOpen, Delivery: 1}
	var wg sync.WaitGroup
	results := make([]error, 8)
	opened := make([]domain.RolloutRecord, 8)
	for i := range results {
		wg.Go(func() { opened[i], results[i] = s.OpenRollout(ctx, record) })
	}
	wg.Wait()
	winner := domain.RolloutRecord{}
	for i, err := range results {
		if err == nil && winner.ID == "" {
			winner = opened[i]
			continue
		}
		wantCode(t, err, domain.Conflict)
	}
	_, err := s.OpenRollout(ctx, winner)
	ok(t, err) // again after a crash
	staging := record
	staging.Environment = domain.Staging
	must(s.OpenRollout(ctx, staging))(t)
	winner.State = domain.RolloutReverting
	ok(t, s.SaveRollout(ctx, winner))
	_, err = s.OpenRollout(ctx, record)
	wantCode(t, err, domain.Conflict)
	winner.State = domain.RolloutRolledBack
	slot := domain.Slot{App: "shop", Environment: domain.Production, Stable: "rel_1", Epoch: 7}
	ok(t, s.FinishRollout(ctx, winner, slot))
	if got := must(s.Slot(ctx, "shop", domain.Production))(t); got != slot {
		t.Errorf("slot: %+v", got)
	}
	next := must(s.OpenRollout(ctx, record))(t)
	if newest := must(s.RolloutOf(ctx, "shop", domain.Production))(t); newest.ID != next.ID {
		t.Errorf("newest: %s, want %s", newest.ID, next.ID)
	}
	if list := must(s.RolloutsOf(ctx, "shop", 1))(t); len(list) != 3 {
		t.Errorf("of the delivery: %d", len(list))
	}
	if list := must(s.OpenRollouts(ctx))(t); len(list) != 2 {
		t.Errorf("open: %d", len(list))
	}
}

func TestFinishRolloutIsAllOrNothing(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	slot := domain.Slot{App: "shop", Environment: domain.Staging, Stable: "rel_1"}
	unknown := domain.RolloutRecord{ID: "rol_1", App: "shop", Environment: domain.Staging, State: domain.RolloutDone}
	wantCode(t, s.FinishRollout(ctx, unknown, slot), domain.NotFound)
	if got := must(s.Slot(ctx, "shop", domain.Staging))(t); got.Stable != "" {
		t.Errorf("slot without its rollout: %+v", got)
	}
	unknown.State = domain.RolloutOpen
	wantCode(t, s.FinishRollout(ctx, unknown, slot), domain.Invalid)
}

func TestJournal(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	if _, found, err := s.Lookup(ctx, "run", "a"); found || err != nil {
		t.Fatalf("before: %v %v", found, err)
	}
	ok(t, s.Save(ctx, "run", "b", []byte("1")))
	ok(t, s.Save(ctx, "run", "a", nil))
	ok(t, s.Save(ctx, "run", "b", []byte("2")))
	ok(t, s.Save(ctx, "other", "c", []byte("3")))
	if record, found, err := s.Lookup(ctx, "run", "b"); !found || err != nil || string(record) != "2" {
		t.Errorf("last write: %q %v %v", record, found, err)
	}
	if _, found, err := s.Lookup(ctx, "run", "a"); !found || err != nil {
		t.Errorf("empty record: %v %v", found, err)
	}
	list := must(s.JournalOf(ctx, "run"))(t)
	if len(list) != 2 || list[0].Name != "b" || list[1].Name != "a" {
		t.Errorf("order: %+v", list)
	}
}

func TestEvents(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	wake, cancel := s.Subscribe()
	for range 3 { // nobody reads: nobody is blocked
		must(s.AppendEvents(ctx, domain.Event{App: "shop", Delivery: 1, Type: "stage.started"}, domain.Event{App: "blog", Type: "log"}))(t)
	}
	<-wake
	select {
	case <-wake:
		t.Error("wake-ups do not coalesce")
	default:
	}
	cancel()
	if last := must(s.LastEvent(ctx))(t); last != 6 {
		t.Errorf("last: %d", last)
	}
	seqs := func(after int64, f store.EventFilter, limit int) (list []int64) {
		for _, e := range must(s.Events(ctx, after, f, limit))(t) {
			list = append(list, e.Seq)
		}
		return list
	}
	for name, c := range map[string]struct{ got, want []int64 }{
		"all":      {seqs(0, store.EventFilter{}, 0), []int64{1, 2, 3, 4, 5, 6}},
		"after":    {seqs(4, store.EventFilter{}, 0), []int64{5, 6}},
		"limit":    {seqs(1, store.EventFilter{}, 2), []int64{2, 3}},
		"app":      {seqs(0, store.EventFilter{App: "blog"}, 0), []int64{2, 4, 6}},
		"delivery": {seqs(2, store.EventFilter{App: "shop", Delivery: 1}, 0), []int64{3, 5}},
		"types":    {seqs(0, store.EventFilter{Types: []string{"log", "x"}}, 0), []int64{2, 4, 6}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

func TestFactsAndFreezes(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	ok(t, s.PutFact(ctx, domain.Fact{App: "shop", Delivery: 1, Kind: "cancel"}))
	ok(t, s.PutFact(ctx, domain.Fact{App: "shop", Kind: "rollback"}))
	ok(t, s.PutFact(ctx, domain.Fact{App: "blog", Kind: "thaw"}))
	if list := must(s.Facts(ctx, "shop", 1))(t); len(list) != 1 || list[0].Kind != "cancel" {
		t.Errorf("of the delivery: %+v", list)
	}
	if list := must(s.Facts(ctx, "shop", 0))(t); len(list) != 2 || list[1].Kind != "rollback" {
		t.Errorf("of the app: %+v", list)
	}
	until := time.Now().UTC()
	ok(t, s.SetFreeze(ctx, domain.Freeze{App: "shop", Reason: "one"}))
	ok(t, s.SetFreeze(ctx, domain.Freeze{App: "shop", Reason: "two", Until: &until}))
	ok(t, s.SetFreeze(ctx, domain.Freeze{Reason: "all"}))
	if list := must(s.Freezes(ctx))(t); len(list) != 2 || list[0].Reason != "all" || list[1].Reason != "two" {
		t.Errorf("freezes: %+v", list)
	}
	ok(t, s.LiftFreeze(ctx, ""))
	if list := must(s.Freezes(ctx))(t); len(list) != 1 {
		t.Errorf("after the thaw: %+v", list)
	}
}

func TestArtifactsAndEvidence(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	_, err := s.Artifact(ctx, "sha256:1")
	wantCode(t, err, domain.NotFound)
	for i, digest := range []string{"sha256:1", "sha256:2"} {
		ok(t, s.SaveArtifact(ctx, store.Artifact{App: "shop", Digest: digest, Inputs: "key", Size: int64(i)}))
		ok(t, s.SaveEvidence(ctx, store.Evidence{App: "shop", Digest: digest, Delivery: i, Envelope: []byte("{}")}))
	}
	if a := must(s.ArtifactByKey(ctx, "shop", "key"))(t); a.Digest != "sha256:2" {
		t.Errorf("newest with the key: %+v", a)
	}
	if a := must(s.Artifact(ctx, "sha256:1"))(t); a.App != "shop" {
		t.Errorf("by digest: %+v", a)
	}
	ok(t, s.DeleteArtifact(ctx, "shop", "sha256:2"))
	if list := must(s.Artifacts(ctx, "shop"))(t); len(list) != 1 {
		t.Errorf("after the deletion: %+v", list)
	}
	if e := must(s.EvidenceOf(ctx, "sha256:2", "shop", 1))(t); string(e.Envelope) != "{}" {
		t.Errorf("evidence: %+v", e)
	}
	_, err = s.EvidenceOf(ctx, "sha256:2", "shop", 7)
	wantCode(t, err, domain.NotFound)
	if list := must(s.EvidenceAbout(ctx, "sha256:1"))(t); len(list) != 1 {
		t.Errorf("about the digest: %+v", list)
	}
}

func TestWritesFailWholeWhenTheyAreCancelled(t *testing.T) {
	s := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.AppendEvents(ctx, domain.Event{Type: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if last := must(s.AppendEvents(t.Context(), domain.Event{Type: "b"}))(t); last != 1 {
		t.Errorf("a gap: %d", last)
	}
}
