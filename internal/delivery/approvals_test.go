package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// office is the policy and the people of a test.
type office struct {
	mu      sync.Mutex
	floors  domain.Floors
	persons map[string]string // by name or address in lower case
	groups  map[string][]string
	full    map[string]string // by user
}

func (o *office) Floors(string) domain.Floors {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.floors
}

func (o *office) Person(identity string) string { return o.persons[strings.ToLower(identity)] }

func (o *office) Members(group string) ([]string, bool) {
	list, found := o.groups[group]
	return list, found
}

func (o *office) FullName(user string) (string, bool) {
	name, found := o.full[user]
	return name, found
}

// gated is belayYAML with gates.
func gated(gates string) string { return belayYAML + "gates: " + gates + "\n" }

// gatedWorld plays a test over a world in which ana ships, and people have to agree.
func gatedWorld(t *testing.T, yaml string, f func(t *testing.T, w *world)) {
	t.Helper()
	in(t, func(t *testing.T, w *world) {
		w.file = yaml
		f(t, w)
	})
}

// waitsFor waits until a delivery waits at a gate, and returns it.
func (w *world) waitsFor(number int, gate string) domain.Delivery {
	w.t.Helper()
	w.until(fmt.Sprintf("#%d waits at %s", number, gate), func() bool {
		d := w.stored(number)
		return d.State == domain.WaitingState && w.gate(number, gate).State == gateWaiting
	})
	return w.stored(number)
}

func (w *world) gate(number int, name string) domain.Gate {
	for _, g := range w.stored(number).Gates {
		if g.Name == name {
			return g
		}
	}
	return domain.Gate{}
}

// yes is the answer of somebody who was shown what goes.
func (w *world) yes(d domain.Delivery, by string) error {
	_, err := w.life.s.Approve(w.t.Context(), Answer{App: "shop", Number: d.Number, Digest: d.Digest, By: by})
	return err
}

// refused checks that an error is a refusal that says all of it.
func refused(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	if domain.CodeOf(err) != domain.Refused {
		t.Errorf("%s: not refused: %v", what, err)
		return
	}
	text := err.Error() + " / " + domain.HintOf(err)
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("%s: it does not say %q: %s", what, s, text)
		}
	}
	if domain.HintOf(err) == "" {
		t.Errorf("%s: it does not say what next: %v", what, err)
	}
}

const twoOfThree = "{ approvals: { need: 2, from: [ana, ben, cem] } }"

// Two of three agree; the author counts as one of them and never alone. Nothing is held meanwhile, and a restart between the
// word and its gate loses nothing.
func TestApprovals(t *testing.T) {
	gatedWorld(t, gated(twoOfThree), func(t *testing.T, w *world) {
		d := w.waitsFor(w.ship("a").Number, gateApprovals)
		if g := w.gate(d.Number, gateApprovals); g.Need != 2 || len(g.Given) != 0 || g.Owner != "ana, ben, cem" || g.Expires == nil ||
			!strings.Contains(g.Detail, "0 of 2 approvals, asked: ana, ben, cem; ana is the author and does not count alone · nothing is locked") {
			t.Errorf("%+v", g)
		}
		if left := time.Until(d.Wait.Deadline); left < 23*time.Hour || left > 24*time.Hour {
			t.Errorf("expires in %s", left)
		}
		w.life.s.mu.Lock()
		held := len(w.life.s.runs)
		w.life.s.mu.Unlock()
		if leave, ok := w.life.s.environments[domain.Production].claim(w.life.s.newRun(domain.Delivery{App: "shop", Number: 99})); !ok || held != 1 {
			t.Error("production is held while people are asked")
		} else {
			leave()
		}
		got, err := w.life.s.Approve(t.Context(), Answer{App: "shop", Number: d.Number, Digest: d.Digest, By: "ana"})
		if err != nil || len(got.Gates) == 0 || got.State != domain.WaitingState {
			t.Fatalf("%v %+v", err, got)
		}
		if g := w.gate(d.Number, gateApprovals); len(g.Given) != 1 || g.Given[0].By != "ana" || g.Given[0].Digest != d.Digest || g.Owner != "ben, cem" {
			t.Errorf("after ana: %+v", g)
		}
		w.life.die("fact", true) // cem's word is stored, and the process dies before anybody looks
		_ = w.yes(d, "cem")
		d = w.await(d.Number)
		w.want("approved", d, domain.DoneState, only("a", false))
		if g := w.gate(d.Number, gateApprovals); g.State != gatePassed || len(g.Given) != 2 {
			t.Errorf("%+v", g)
		}
	})
}

// What nobody may approve, and why.
func TestWhoDoesNotCount(t *testing.T) {
	gatedWorld(t, gated(twoOfThree), func(t *testing.T, w *world) {
		first := w.ship("a")
		time.Sleep(time.Second)
		refused(t, "before it asks", w.yes(domain.Delivery{Number: first.Number, Digest: "sha256:" + sha("a")}, "ben"), "asks nothing now", "belay show 1")
		d := w.waitsFor(first.Number, gateApprovals)
		other := d
		other.Digest = "sha256:" + sha("f")
		refused(t, "another digest", w.yes(other, "ben"), "what you saw is not what would go", "belay show 1")
		other.Digest = ""
		refused(t, "no digest", w.yes(other, "ben"), "does not say which artifact", d.Digest)
		refused(t, "a stranger", w.yes(d, "dan"), "dan is not one of those who are asked: ana, ben, cem")
		for _, gate := range []string{gateWayBack, gateEvidence, gateWindow} {
			_, err := w.life.s.Approve(t.Context(), Answer{App: "shop", Number: d.Number, Digest: d.Digest, By: "ben", Gate: gate})
			refused(t, "another gate", err, "does not ask for a yes to "+gate)
		}
		// A yes to something else, another delivery's or another artifact's is stored, and is none to this.
		store := storeOf{w.disk, w.life}
		for _, f := range []domain.Fact{
			{Gate: gateWayBack, Digest: d.Digest, By: "ben"}, {Gate: gateEvidence, Digest: d.Digest, By: "ben"}, {Gate: "", Digest: d.Digest, By: "ben"},
			{Gate: gateApprovals, Digest: "sha256:" + sha("f"), By: "ben"}, {Gate: gateApprovals, Digest: d.Digest, By: "ben", Delivery: 7},
		} {
			f.App, f.Kind, f.At = "shop", approveFact, time.Now()
			if f.Delivery == 0 {
				f.Delivery = d.Number
			}
			if err := store.PutFact(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.yes(d, "cem"); err != nil {
			t.Fatal(err)
		}
		if err := w.yes(d, "cem"); err != nil {
			t.Errorf("the same yes again: %v", err)
		}
		time.Sleep(5 * time.Second)
		if g := w.gate(d.Number, gateApprovals); g.State != gateWaiting || len(g.Given) != 1 {
			t.Errorf("replayed yeses count: %+v", g)
		}
		if _, err := w.life.s.Reject(t.Context(), "shop", d.Number, "dan", "not today"); err != nil {
			t.Fatal(err)
		}
		refused(t, "after a reject", errorOf(w.yes(d, "ben")), "not today")
		if d = w.await(d.Number); d.State != domain.RejectedState {
			t.Errorf("%s", d.State)
		}
		refused(t, "after the end", w.yes(d, "ben"), "#1 has ended: rejected in deploy production", "not today")
	})
}

func errorOf(err error) error { return err }

// Two people at one moment both count, one person at two clients counts once, and the need is reached once.
func TestApprovalsAtOnce(t *testing.T) {
	gatedWorld(t, gated(twoOfThree), func(t *testing.T, w *world) {
		d := w.waitsFor(w.ship("a").Number, gateApprovals)
		all := func(names ...string) {
			var wg sync.WaitGroup
			for _, name := range names {
				wg.Go(func() {
					if err := w.yes(d, name); err != nil && domain.CodeOf(err) != domain.Refused {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		all("ben", "ben", "ben", "ben")
		time.Sleep(3 * time.Second)
		if g := w.gate(d.Number, gateApprovals); g.State != gateWaiting || len(g.Given) != 1 {
			t.Fatalf("one person at four clients: %+v", g)
		}
		all("cem", "ana", "cem", "ben")
		d = w.await(d.Number)
		facts, _ := (storeOf{w.disk, w.life}).Facts(t.Context(), "shop", d.Number)
		passed := 0
		for _, e := range w.disk.events {
			if e.Type == "gate.passed" && e.Data["gate"] == gateApprovals {
				passed++
			}
		}
		if d.State != domain.DoneState || passed != 1 || len(facts) > 3 {
			t.Errorf("%s, passed %d times, %d facts", d.State, passed, len(facts))
		}
	})
}

// An approval that nobody gives ends the delivery, and a yes that comes too late is told so.
func TestApprovalsExpire(t *testing.T) {
	t.Parallel()
	gatedWorld(t, gated("{ approvals: { need: 1, from: [ben], expire: 2h } }"), func(t *testing.T, w *world) {
		d := w.waitsFor(w.ship("a").Number, gateApprovals)
		w.restart() // the time counts from when it was first asked
		time.Sleep(time.Hour)
		d = w.waitsFor(d.Number, gateApprovals)
		if left := time.Until(d.Wait.Deadline); left > time.Hour || left < 59*time.Minute {
			t.Errorf("after a restart it expires in %s", left)
		}
		time.Sleep(time.Hour + time.Minute)
		d = w.await(d.Number)
		if d.State != domain.ExpiredState || !strings.Contains(d.Outcome.Sentence, "were not given within 2h") || !strings.Contains(d.Outcome.Hint, "belay ship") {
			t.Errorf("%s %+v", d.State, d.Outcome)
		}
		refused(t, "too late", w.yes(d, "ben"), "#1 has ended: expired")
	})
}

// A clock that is set back prolongs nothing, and one that is set ahead ends the wait early, which is told.
func TestApprovalsAndTheClock(t *testing.T) {
	asked := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	began := time.Now()
	p := patience{asked: asked, before: 20 * time.Hour, began: began}
	wall := func(mono time.Duration, shown time.Time) time.Duration {
		// The clock that nobody can set went on by mono; the one on the wall shows another time.
		long, _ := patience{asked: began.Add(mono).Round(0).Add(-shown.Sub(asked)), before: p.before, began: p.began}.waited(began.Add(mono))
		return long
	}
	if got := wall(2*time.Hour, asked.Add(-time.Hour)); got != 22*time.Hour {
		t.Errorf("set back before it was asked: %s", got)
	}
	if got := wall(2*time.Hour, asked.Add(22*time.Hour)); got != 22*time.Hour {
		t.Errorf("a right clock: %s", got)
	}
	if got := wall(time.Hour, asked.Add(50*time.Hour)); got != 50*time.Hour {
		t.Errorf("set ahead: %s", got)
	}
	_, ahead := patience{asked: began.Round(0).Add(-30 * time.Hour), before: 20 * time.Hour, began: began}.waited(began.Add(time.Hour))
	if text := jumped(ahead); !strings.Contains(text, "the clock went ahead by 10h meanwhile") {
		t.Errorf("%s: %q", ahead, text)
	}
	if jumped(time.Second) != "" {
		t.Error("a second is told")
	}
}

// Once a newer delivery has passed Verify staging, a yes to the older one is too late.
func TestApprovalsAreSuperseded(t *testing.T) {
	gatedWorld(t, gated("{ approvals: { need: 1, from: [ben] } }"), func(t *testing.T, w *world) {
		older := w.waitsFor(w.ship("a").Number, gateApprovals)
		newer := w.waitsFor(w.ship("b").Number, gateApprovals)
		older = w.await(older.Number)
		refused(t, "superseded", w.yes(older, "ben"), "#1 has ended: superseded", "#2")
		if err := w.yes(newer, "ben"); err != nil {
			t.Fatal(err)
		}
		w.want("the newer", w.await(newer.Number), domain.DoneState, only("b", false))
	})
}

// One person stays one person, under whatever name.
func TestAnAuthorUnderAnotherName(t *testing.T) {
	type maker struct{ author, email, committer, by string }
	everybody := &office{
		persons: map[string]string{"ana": "ana", "ana-admin": "ana", "ana@example.com": "ana", "ana lindt": "ana"},
		full:    map[string]string{"ben": "Ben Okri", "ana": "", "ana-admin": "", "root": "root"},
		groups:  map[string][]string{"deployers": {"ana", "ana-admin", "ben", "dan"}},
	}
	for _, c := range []struct {
		name string
		from string
		made maker
		by   string
		says string
	}{
		{"the author", "[ana, dan]", maker{author: "ana", by: "ana"}, "ana", "ana is an author of"},
		{"a second user of the same person", "[ana-admin, dan]", maker{author: "ana", by: "ana"}, "ana-admin", "ana-admin is an author of"},
		{"who shipped it", "[ben, dan]", maker{author: "zoe", by: "ben"}, "ben", "ben is an author of"},
		{"the committer of another's commit", "[ben, dan]", maker{author: "zoe", committer: "ben", by: "ci"}, "ben", "ben is an author of"},
		{"by the address", "[ana-admin, dan]", maker{author: "A.", email: "ana@example.com", by: "ci"}, "ana-admin", "ana-admin is an author of"},
		{"by the local part of the address", "[ben, dan]", maker{author: "B.", email: "Ben@example.com", by: "ci"}, "ben", "ben is an author of"},
		{"by the full name", "[ben, dan]", maker{author: "ben okri", by: "ci"}, "ben", "ben is an author of"},
		{"in a group", `["@deployers"]`, maker{author: "Ana Lindt", by: "ci"}, "ana-admin", "ana-admin is an author of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			gatedWorld(t, gated("{ approvals: { need: 1, from: "+c.from+" } }"), func(t *testing.T, w *world) {
				w.life.s.ports.Policy, w.life.s.ports.People = everybody, everybody
				w.commit = Commit{Author: c.made.author, AuthorEmail: c.made.email, Committer: c.made.committer}
				shipped, err := w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("a"), By: c.made.by})
				if err != nil {
					t.Fatal(err)
				}
				d := w.waitsFor(shipped.Number, gateApprovals)
				refused(t, c.name, w.yes(d, c.by), c.says, "an author never counts alone", "somebody else approves")
				if err := w.yes(d, "dan"); err != nil {
					t.Error(err)
				}
				w.await(d.Number)
			})
		})
	}
}

// Two names of one person are one yes.
func TestOnePersonCountsOnce(t *testing.T) {
	gatedWorld(t, gated("{ approvals: { need: 2, from: [ben, ben2, cem] } }"), func(t *testing.T, w *world) {
		everybody := &office{persons: map[string]string{"ben": "ben", "ben2": "ben"}}
		w.life.s.ports.Policy, w.life.s.ports.People = everybody, everybody
		d := w.waitsFor(w.ship("a").Number, gateApprovals)
		if err := w.yes(d, "ben"); err != nil {
			t.Fatal(err)
		}
		refused(t, "the second name", w.yes(d, "ben2"), "ben2 is ben, who has approved already: one person counts once")
		f := domain.Fact{App: "shop", Delivery: d.Number, Kind: approveFact, Gate: gateApprovals, Digest: d.Digest, By: "ben2", At: time.Now()}
		if err := (storeOf{w.disk, w.life}).PutFact(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if g := w.gate(d.Number, gateApprovals); g.State != gateWaiting {
			t.Errorf("one person opened it: %+v", g)
		}
		if err := w.yes(d, "cem"); err != nil {
			t.Fatal(err)
		}
		w.want("two people", w.await(d.Number), domain.DoneState, only("a", false))
	})
}

// What nobody could ever approve is refused at ship.
func TestApprovalsThatCannotBeGiven(t *testing.T) {
	for gates, says := range map[string]string{
		"{ approvals: { need: 1, from: [ana] } }":         "gates.approvals asks for 1 of ana",
		"{ approvals: { need: 2, from: [\"@nobody\"] } }": "2 of group nobody (nobody)",
	} {
		gatedWorld(t, gated(gates), func(t *testing.T, w *world) {
			_, err := w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("a"), By: "ana"})
			refused(t, gates, err, "its approval could never be given", says, "the author never counts alone", "somebody else ships")
		})
	}
}

// A commit that lowers what judges it is held to what was before; what it loosens counts from the next delivery on.
func TestTheCommitThatLetsItselfPass(t *testing.T) {
	canary := strings.Replace(belayYAML, "rollout: { strategy: blue-green, staging_hold: 5s }",
		"rollout: { strategy: canary, steps: [10% for 20s, 50% for 20s], staging_hold: 5s, min_soak: 2s }", 1)
	careful := canary + "gates: { approvals: { need: 1, from: [ben] } }\n"
	careless := strings.NewReplacer(
		"unit:        { run: make unit }", "unit: { none: they take too long }",
		"e2e:         { run: make e2e, start: [web] }", "e2e: { run: make e2e }",
		"steps: [10% for 20s, 50% for 20s], staging_hold: 5s, min_soak: 2s", "steps: [10% for 1s, 50% for 1s], staging_hold: 1s, min_soak: 1s",
		"page: { http: /, critical: true }", "page: { http: /, status: 500 }",
		"monitor: { for: 60s }", "monitor: { for: 1s }", "error_rate: 5% for 10s", "error_rate: 99% for 1h",
	).Replace(canary)
	gatedWorld(t, careful, func(t *testing.T, w *world) {
		d := w.waitsFor(w.ship("a").Number, gateApprovals)
		if err := w.yes(d, "ben"); err != nil {
			t.Fatal(err)
		}
		if d = w.await(d.Number); d.State != domain.DoneState {
			t.Fatalf("%s %+v", d.State, d.Outcome)
		}
		w.file = careless
		d = w.waitsFor(w.ship("b").Number, gateApprovals)
		for _, says := range []string{
			"gates.approvals: they are removed, were 1 of [ben]", "test.unit: it became none: they take too long", "test.e2e.start: web is no longer started",
			"rollout.steps: [10% for 1s 50% for 1s], was [10% for 20s 50% for 20s]", "monitor.for: 1s, was 60s", "guard.error_rate: 99% for 1h, was 5% for 10s",
			"verify.checks.page: it is no longer critical", "verify.checks.page.status: 500, was 200", "rollout.staging_hold: 1s, was 5s",
		} {
			if !slices.Contains(d.Loosened, says) {
				t.Errorf("it is not told that %q:\n%s", says, strings.Join(d.Loosened, "\n"))
			}
		}
		job := w.tested
		if l := job.Test.Unit; l.Run.Text != "make unit" || len(job.Test.E2E.Start) != 1 || job.Verify.Checks["page"].Status != 200 ||
			!bool(job.Verify.Checks["page"].Critical) {
			t.Errorf("the commit's own file was used: %+v", l)
		}
		if err := w.yes(d, "ben"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if d = w.await(d.Number); d.State != domain.DoneState || time.Since(began) < 100*time.Second {
			t.Fatalf("%s after %s %+v", d.State, time.Since(began), d.Outcome)
		}
		// From here on it counts.
		if d = w.await(w.ship("c").Number); d.State != domain.DoneState || len(d.Loosened) > 0 {
			t.Errorf("%s %v %+v", d.State, d.Loosened, d.Outcome)
		}
		if w.tested.Test.Unit.None == "" {
			t.Error("the loosening does not count from the next delivery on")
		}
	})
}

// The policy's floors hold whatever a file says, and a policy in the repository is nobody's.
func TestTheServersPolicy(t *testing.T) {
	admin := &office{floors: domain.Floors{Need: 1, From: []string{"ben"}, Monitor: 2 * time.Minute, Bake: 30 * time.Second, File: "/etc/belay/policy.yaml"}}
	canary := strings.Replace(belayYAML, "rollout: { strategy: blue-green, staging_hold: 5s }",
		"rollout: { strategy: canary, steps: [10% for 2s, 50% for 40s], staging_hold: 5s, min_soak: 1s }", 1)
	gatedWorld(t, canary, func(t *testing.T, w *world) {
		w.done("a")
		w.life.s.ports.Policy, w.life.s.ports.People = admin, admin
		began := time.Now()
		d := w.waitsFor(w.ship("b").Number, gateApprovals)
		if g := w.gate(d.Number, "policy"); !strings.Contains(g.Detail, "monitor.for: 2m instead of 60s: the server's policy") ||
			!strings.Contains(g.Detail, "rollout.steps: 10% for 30s instead of 2s") || !strings.Contains(g.Detail, "approvals: 1 of ben") {
			t.Errorf("%+v", g)
		}
		refused(t, "another than the policy's", w.yes(d, "cem"), "cem is not one of those who are asked: ben")
		if err := w.yes(d, "ben"); err != nil {
			t.Fatal(err)
		}
		if d = w.await(d.Number); d.State != domain.DoneState || time.Since(began) < 190*time.Second {
			t.Errorf("%s after %s", d.State, time.Since(began))
		}
		admin.mu.Lock()
		admin.floors = domain.Floors{Levels: []string{"integration"}, File: "/etc/belay/policy.yaml"}
		admin.mu.Unlock()
		_, err := w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("c"), By: "ana"})
		refused(t, "no tests", err, "the server's policy demands tests in integration, and the file says none: nothing to integrate", "only the administrator can change /etc/belay/policy.yaml")
		admin.floors = domain.Floors{Levels: []string{"e2e"}, File: "/etc/belay/policy.yaml"}
		d = w.await(w.ship("d").Number) // the reports of this world count unit tests only
		if d.State != domain.FailedState || !strings.Contains(d.Outcome.Sentence, "at least one counted test in e2e, and none was") {
			t.Errorf("%s %+v", d.State, d.Outcome)
		}
		admin.floors = domain.Floors{Branches: []string{"main"}, File: "/etc/belay/policy.yaml"}
		_, err = w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("e"), By: "ana"})
		refused(t, "no remote", err, "names no remote from which that can be proven", "remote:")
		admin.floors.Remote = "https://git.example/shop.git"
		w.unreachable = true
		_, err = w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("e"), By: "ana"})
		refused(t, "a branch", err, "is not reachable from main of https://git.example/shop.git", "merge it and push")
	})
}

// Without a way back a yes has to name it, and the first step asks once more.
func TestNoWayBack(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		w.driver.Prepared = func(_ context.Context, digest string) error {
			if digest == "sha256:"+sha("a") {
				return errors.New("the artifact is gone")
			}
			return nil
		}
		d := w.waitsFor(w.ship("b").Number, gateWayBack)
		if !strings.Contains(d.Wait.Reason, "there is no way back: aaaaaaa could not start again: its artifact is not whole on this machine") || !strings.Contains(d.Wait.Reason, "--no-way-back") {
			t.Errorf("%+v", d.Wait)
		}
		refused(t, "without its name", w.yes(d, "ben"), "has no way back, and a yes to that names it", "belay approve 2 --no-way-back")
		_, err := w.life.s.Approve(t.Context(), Answer{App: "shop", Number: d.Number, Digest: d.Digest, By: "ben", Gate: gateWayBack})
		if err != nil {
			t.Fatal(err)
		}
		w.until("the first step asks", func() bool { r := w.life.s.find("shop", d.Number); return r != nil && r.asking() })
		w.until("it is shown", func() bool {
			now := w.stored(d.Number)
			return now.Wait != nil && strings.Contains(now.Wait.Reason, "is over, and there is no way back")
		})
		if err := w.yes(d, "ben"); err != nil {
			t.Fatal(err)
		}
		w.want("agreed", w.await(d.Number), domain.DoneState, only("b", false))
	})
}

// What an approval is about: what it brings beside what serves.
func TestChanges(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		w.file = strings.Replace(belayYAML, "roles:", "env: { LOG_LEVEL: debug }\nroles:", 1)
		d := w.ship("b")
		c, err := w.life.s.Changes(t.Context(), "shop", d.Number)
		if err != nil || c.From != sha("a") || c.Commits != 2 || !slices.Equal(c.Variables, []string{"LOG_LEVEL"}) || len(c.Secrets) > 0 {
			t.Errorf("%+v %v", c, err)
		}
		w.await(d.Number)
	})
	got := otherVersions(map[string]int{"A": 1, "B": 2, "C": 3}, map[string]int{"A": 1, "B": 4, "D": 1})
	if want := []string{"B 2 -> 4", "C is gone", "D 1 is new"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
