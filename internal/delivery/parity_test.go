package delivery

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// differs is the shop with less memory in staging.
const differs = "    memory: { staging: 64MiB, production: 1GiB }\n"

func withRole(more string) string {
	return strings.Replace(belayYAML, "    drain: 3s\n", "    drain: 3s\n"+more, 1)
}

// A difference that nobody declared stops the line before anything is deployed, also after a restart.
func TestUndeclaredDifference(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		w.yaml[sha("b")] = withRole(differs)
		b := w.await(w.ship("b").Number)
		w.want("stopped", b, domain.FailedState, only("a", false))
		row := b.Stages[2]
		if row.State != domain.FailedState || !strings.Contains(row.Summary, "roles.web.memory: 64MiB in staging, 1GiB in production") {
			t.Errorf("%s %s", row.State, row.Summary)
		}
		if len(b.Gates) != 1 || b.Gates[0].State != "refused" || b.Gates[0].Detail != "0 declared, 1 undeclared: roles.web.memory" {
			t.Errorf("%+v", b.Gates)
		}
		if w.lastRollout(domain.Staging).Delivery != 1 || w.told("gate.refused") != 1 {
			t.Error(w.describe())
		}
		v, err := w.life.s.Plan(t.Context(), PlanRequest{App: "shop", Commit: sha("b"), File: []byte(w.yaml[sha("b")])})
		if err != nil || v.Parity != "0 declared, 1 undeclared: roles.web.memory" || !strings.Contains(v.Refused, "staging and production differ") {
			t.Errorf("%q %q %v", v.Parity, v.Refused, err)
		}
	})
}

// The commit that brings a difference cannot declare it for itself: its declaration counts from the next delivery on.
func TestDifferenceIsDeclaredByTheDeliveryBefore(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		const declared = "parity: { roles.web.memory: staging has no visitors }\n"
		w.done("a")
		both := withRole(differs) + declared
		w.yaml[sha("b")], w.yaml[sha("c")], w.yaml[sha("d")] = both, belayYAML+declared, both
		b := w.await(w.ship("b").Number)
		w.want("both at once", b, domain.FailedState, only("a", false))
		if !strings.Contains(b.Stages[2].Summary, "it counts from the next delivery on") || !strings.Contains(b.Outcome.Hint, "ship the declaration without the difference first") {
			t.Errorf("%s %s", b.Stages[2].Summary, b.Outcome.Hint)
		}
		w.done("c")
		d := w.done("d")
		if notes := strings.Join(d.Stages[2].Notes, "\n"); !strings.Contains(notes, "roles.web.memory: 64MiB in staging, 1GiB in production · staging has no visitors") {
			t.Error(notes)
		}
		for _, g := range d.Gates {
			if g.Name == gateParity && g.Detail != "1 declared: roles.web.memory, 0 undeclared" {
				t.Errorf("%+v", g)
			}
		}
	})
}

// answers are databases that answer as a test says, by URL.
type answers map[string]Database

func (a answers) Look(_ context.Context, url string) (Database, error) {
	db, ok := a[url]
	if !ok {
		return db, errors.New("connection refused")
	}
	return db, nil
}

func TestDatabasesAreCompared(t *testing.T) {
	f, findings := config.Parse("belay.yaml", []byte(belayYAML+"secrets: { store: [DATABASE_URL] }\n"), config.Options{Demo: true})
	if config.Failed(findings, false) {
		t.Fatal(findings)
	}
	urls := map[domain.Environment]map[string]domain.Secret{
		domain.Staging: {"DATABASE_URL": domain.NewSecret("s")}, domain.Production: {"DATABASE_URL": domain.NewSecret("p")},
	}
	for _, c := range []struct {
		asked answers
		want  string
	}{
		{answers{"s": {17, 500}, "p": {17, 4000}}, "0 declared, 0 undeclared"},
		{answers{"s": {17, 399}, "p": {17, 4000}}, "0 declared, 1 undeclared: database_rows"},
		{answers{"s": {17, 0}, "p": {17, 999}}, "0 declared, 0 undeclared"},
		{answers{"s": {16, 500}, "p": {17, 500}}, "0 declared, 1 undeclared: database.version"},
		{answers{"s": {17, 500}}, "0 declared, 0 undeclared, not compared: the databases: production's: connection refused"},
		{nil, "0 declared, 0 undeclared, not compared: the databases: this server asks none"},
	} {
		s := &Service{}
		if c.asked != nil {
			s.ports.Databases = c.asked
		}
		facts, unknown := s.databases(t.Context(), f, urls)
		if got := config.ParityOf(f, nil, facts, unknown).String(); got != c.want {
			t.Errorf("%v: %s", c.asked, got)
		}
	}
	urls[domain.Production]["DATABASE_URL"] = domain.NewSecret("")
	if list := emptySecrets(f, urls); len(list) != 1 || list[0].ID != "secrets.DATABASE_URL" || list[0].What != "set in staging, empty in production" {
		t.Errorf("%+v", list)
	}
}
