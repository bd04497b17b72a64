package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/store"
)

// ticking is a release with a web role and a job; fixed leaves the job out.
func ticking(id string, jobs bool) domain.Release {
	rel := domain.Release{ID: id, App: "shop", Environment: domain.Production, Commit: id + "000000000", Workloads: []domain.Workload{
		{Role: "web", Kind: domain.Web, Instances: 1, Hosts: []string{"shop.example"}, Paths: []string{"/"}},
	}}
	if jobs {
		rel.Workloads = append(rel.Workloads, domain.Workload{Role: "tidy", Kind: domain.Cron, Schedule: "0 3 * * * UTC"})
	}
	return rel
}

func TestJobsFollowTheMajority(t *testing.T) {
	b := newBench(t)
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "belay.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, second := ticking("rel_1", true), ticking("rel_2", true)
	j := &jobReleases{store: s, router: b.router, known: map[string]domain.Release{}}
	check := func(when, want string) {
		t.Helper()
		rel, ok, err := j.Owner(t.Context(), "shop", domain.Production)
		if err != nil || ok != (want != "") || rel.ID != want {
			t.Errorf("%s jobs run on %q (%v), want %q", when, rel.ID, err, want)
		}
		owners, err := j.Owners(t.Context())
		if err != nil || want == "" && len(owners) > 0 || want != "" && (len(owners) != 1 || owners[0].ID != want) {
			t.Errorf("%s jobs are looked up in %+v (%v), want %q", when, owners, err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, rel := range []domain.Release{first, second} {
		must(s.SaveRelease(t.Context(), rel))
		b.start(&rel, "web", 0, fine)
	}
	split := func(id string, stable, next *domain.Release, weight int, latched bool) {
		t.Helper()
		must(b.router.Split(t.Context(), rollout.Split{App: "shop", Environment: domain.Production, Rollout: id, Stable: stable, Next: next,
			Weight: weight, Latched: latched}))
	}
	record := domain.RolloutRecord{ID: "rol_1", App: "shop", Environment: domain.Production, Next: "rel_1", State: domain.RolloutOpen, Started: time.Now()}
	slot := domain.Slot{App: "shop", Environment: domain.Production, Stable: "rel_1"}
	_, err = s.OpenRollout(t.Context(), record)
	must(err)
	split("rol_1", nil, &first, domain.WeightAll, false)
	check("before the first release is stable", "")
	record.State = domain.RolloutDone
	must(s.FinishRollout(t.Context(), record, slot))
	split("", &first, nil, 0, false)
	check("on stable", "rel_1")

	record = domain.RolloutRecord{ID: "rol_2", App: "shop", Environment: domain.Production, Stable: "rel_1", Next: "rel_2", State: domain.RolloutOpen}
	_, err = s.OpenRollout(t.Context(), record)
	must(err)
	for _, step := range []struct {
		weight int
		want   string
	}{{0, "rel_1"}, {500, "rel_1"}, {domain.WeightAll / 2, "rel_1"}, {domain.WeightAll/2 + 1, "rel_2"}, {domain.WeightAll, "rel_2"}} {
		split("rol_2", &first, &second, step.weight, false)
		check("with next at a weight", step.want)
	}
	// Taken back: at once, whatever weight the data plane still shows.
	record.State = domain.RolloutReverting
	must(s.SaveRollout(t.Context(), record))
	if rel, _, err := j.Owner(t.Context(), "shop", domain.Production); err != nil || rel.ID != "rel_1" {
		t.Errorf("while it is taken back jobs start on %s (%v)", rel.ID, err)
	}
	for id, want := range map[string]bool{"rel_1": false, "rel_2": true, "rel_9": false} {
		if got, err := j.TakenBack(t.Context(), id); err != nil || got != want {
			t.Errorf("%s is taken back: %t, %v", id, got, err)
		}
	}
	split("rol_2", &first, &second, 0, true)
	check("latched", "rel_1")
	record.State = domain.RolloutRolledBack
	must(s.FinishRollout(t.Context(), record, slot))
	split("", &first, nil, 0, false)
	check("after a rollback", "rel_1")

	// The data plane moves a moment before the slot does.
	split("", &second, nil, 0, false)
	if rel, _, err := j.Owner(t.Context(), "shop", domain.Production); err != nil || rel.ID != "rel_2" {
		t.Errorf("before the slot follows jobs start on %s (%v)", rel.ID, err)
	}
	slot.Stable = "rel_2"
	must(s.SaveSlot(t.Context(), slot))
	check("after the next one is done", "rel_2")

	// A release without jobs is nobody's.
	plain := ticking("rel_3", false)
	must(s.SaveRelease(t.Context(), plain))
	slot.Stable = "rel_3"
	must(s.SaveSlot(t.Context(), slot))
	if owners, err := j.Owners(t.Context()); err != nil || len(owners) != 0 || len(j.known) != 1 {
		t.Errorf("looked up in %+v, %d are remembered, %v", owners, len(j.known), err)
	}
}

// A followed job leaves no open file behind for each of its runs.
func TestFollowersOfRemovedFilesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := &follower{path: path, name: "tidy"}
	if f.gone() {
		t.Error("a file that is still to come is gone")
	}
	if err := os.WriteFile(path, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := f.copy(&out); err != nil || out.String() != "tidy | one\ntidy | two\n" || f.gone() {
		t.Errorf("copied %q, %v", out.String(), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !f.gone() {
		t.Error("a removed file is still followed")
	}
	if _, err := f.f.Stat(); err == nil {
		t.Error("it is still open")
	}
}
