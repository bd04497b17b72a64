package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
)

// item is one line of the checklist before production. Find computes it from what is known of the delivery; nobody ticks it.
type item struct {
	name string
	find func(*run, context.Context, domain.Delivery) (ok bool, detail string, err error)
}

// items is the checklist, in the order in which it is shown. It is shown and signed; what must stop a delivery is a gate.
var items = [...]item{
	{"tests passed", (*run).testsPassed},
	{"artifact immutable, tagged and signed", (*run).artifactFixed},
	{"staging exists and matches", (*run).stagingMatches},
	{"migrations rehearsed", (*run).migrationsRehearsed},
	{"strategy chosen", (*run).strategyChosen},
	{"health endpoint answers", (*run).healthAnswers},
	{"automated checks exist", (*run).checksExist},
	{"rollback triggers set", (*run).triggersSet},
	{"dashboard live", (*run).dashboardLive},
	{"rollback rehearsed", (*run).rollbackRehearsed},
	{"secrets managed", (*run).secretsManaged},
	{"on-call notified", (*run).onCallNotified},
}

// checklist computes every item. One that cannot be computed is not ok, and says why.
func (r *run) checklist(ctx context.Context) []domain.CheckItem {
	d := r.snapshot()
	list := make([]domain.CheckItem, len(items))
	for i, it := range items {
		ok, detail, err := it.find(r, ctx, d)
		if err != nil {
			ok, detail = false, "not known: "+err.Error()
		}
		list[i] = domain.CheckItem{Item: it.name, OK: ok, Detail: detail}
	}
	return list
}

// row returns a stage's record.
func row(d domain.Delivery, stage domain.Stage) domain.StageRecord {
	i := slices.IndexFunc(d.Stages, func(s domain.StageRecord) bool { return s.Name == stage })
	if i < 0 {
		return domain.StageRecord{}
	}
	return d.Stages[i]
}

func (r *run) testsPassed(_ context.Context, d domain.Delivery) (bool, string, error) {
	test := row(d, domain.Test)
	ran, detail := 0, test.Summary
	for _, l := range test.Levels {
		ran += l.Passed
		switch {
		case l.State == "none":
			detail += fmt.Sprintf(" · no %s tests: %s", l.Level, l.Reason)
		case !l.Counted:
			ran++ // its command is all that is known of it
		}
	}
	return test.State == domain.DoneState && ran > 0, detail, nil
}

// artifactFixed: the same digest was built, signed and started in staging, which admits nothing else.
func (r *run) artifactFixed(ctx context.Context, d domain.Delivery) (bool, string, error) {
	if d.Digest == "" {
		return false, "there is none yet", nil
	}
	rel, err := r.released(ctx, domain.Staging)
	if err != nil || rel == nil {
		return false, d.Digest + ", and staging has not had it", err
	}
	return rel.Digest == d.Digest && rel.Commit == d.Commit, d.Digest + " tagged " + d.Commit, nil
}

// released is the release that this delivery brought into an environment; nil when there is none.
func (r *run) released(ctx context.Context, env domain.Environment) (*domain.Release, error) {
	roll := r.rolloutIn(env)
	if roll == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	rel, err := r.s.ports.Store.Release(ctx, roll.Record.Next)
	return &rel, err
}

func (r *run) stagingMatches(_ context.Context, d domain.Delivery) (bool, string, error) {
	verified := row(d, domain.VerifyStaging)
	if verified.State != domain.DoneState {
		return false, "it was not verified", nil
	}
	detail := verified.Summary
	for _, g := range d.Gates {
		if g.Name == "parity" {
			return g.State == gatePassed, "parity: " + g.Detail + " · " + detail, nil
		}
	}
	return true, detail, nil
}

func (r *run) migrationsRehearsed(_ context.Context, _ domain.Delivery) (bool, string, error) {
	if r.file.Migrations == nil {
		return true, "the file has none", nil
	}
	return false, "the databases of tests are migrated; a rehearsal on a copy of production's is not in force yet", nil
}

func (r *run) strategyChosen(context.Context, domain.Delivery) (bool, string, error) {
	return true, r.settings.Rollout.String(), nil
}

// healthAnswers: every role has a probe, and staging's instances answered theirs when they were looked at.
func (r *run) healthAnswers(ctx context.Context, _ domain.Delivery) (bool, string, error) {
	for _, name := range r.file.RoleNames() {
		if role := r.file.Roles[name]; role.Probe == nil && role.Static == "" && role.Schedule.Zone == nil {
			return false, name + " has no probe", nil
		}
	}
	rel, err := r.released(ctx, domain.Staging)
	if err != nil || rel == nil {
		return false, "nothing runs in staging", err
	}
	healthy, wanted, err := r.s.health(ctx, *rel)
	return healthy == wanted && wanted > 0, fmt.Sprintf("%d of %d instances in staging", healthy, wanted), err
}

// checksExist counts the file's own checks and those that staging really answered.
func (r *run) checksExist(_ context.Context, d domain.Delivery) (bool, string, error) {
	passed := 0
	for _, c := range row(d, domain.VerifyStaging).Checks {
		if c.State == "passed" {
			passed++
		}
	}
	own := len(r.file.Verify.Checks)
	return own > 0 && passed > 0, fmt.Sprintf("%s beside the built-in ones, %d passed in staging", plural(own, "check"), passed), nil
}

func (r *run) triggersSet(context.Context, domain.Delivery) (bool, string, error) {
	g := r.settings.Guard
	return g.ErrorRate > 0 && g.Latency > 0 && g.FailedProbes > 0, fmt.Sprintf("errors > %s for %s, latency > %g times, %d failed probes",
		rate(g.ErrorRate), domain.Span(g.ErrorFor), g.Latency, g.FailedProbes), nil
}

func (r *run) dashboardLive(_ context.Context, d domain.Delivery) (bool, string, error) {
	if d.URL == "" {
		return false, "the server listens on its socket only: belay serve --listen 127.0.0.1:7070", nil
	}
	return true, d.URL, nil
}

func (r *run) rollbackRehearsed(_ context.Context, d domain.Delivery) (bool, string, error) {
	return d.Rehearsal != nil, rehearsalText(d.Rehearsal), nil
}

// secretsManaged: each has a value from a provider, with its version, and no finding.
func (r *run) secretsManaged(ctx context.Context, _ domain.Delivery) (bool, string, error) {
	rel, err := r.released(ctx, domain.Staging)
	if err != nil || rel == nil {
		return false, "nothing runs in staging", err
	}
	if len(rel.Secrets) == 0 {
		return true, "the file names none", nil
	}
	detail := plural(len(rel.Secrets), "secret") + ", each with its version"
	findings, err := journal.Do(ctx, r.journal(), "secret findings", r.secretFindings) // providers are asked once
	if err != nil {
		return false, "", err
	}
	if len(findings) > 0 {
		return false, strings.Join(findings, "; "), nil
	}
	return true, detail, nil
}

// secretFindings is what a person should change about the secrets that this delivery uses.
func (r *run) secretFindings(ctx context.Context) ([]string, error) {
	if r.s.ports.Safe == nil {
		return nil, nil
	}
	stable := map[domain.Environment]*domain.Release{}
	for _, env := range domain.Environments {
		rel, err := r.s.stableOf(ctx, r.d.App, env)
		if err != nil {
			return nil, err
		}
		stable[env] = rel
	}
	_, found, err := r.s.ports.Safe.Inspect(ctx, r.d.App, r.file, stable)
	var texts []string
	for _, f := range found {
		texts = append(texts, f.Message)
	}
	return texts, err
}

func (r *run) onCallNotified(ctx context.Context, _ domain.Delivery) (bool, string, error) {
	if r.s.ports.Notifications == nil {
		return false, "this server notifies nobody", nil
	}
	return r.s.ports.Notifications.OnCall(ctx, r.d.App, r.file)
}
