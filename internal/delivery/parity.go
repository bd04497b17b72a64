package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
)

// Databases asks the databases of both environments what they are. It changes nothing in them.
type Databases interface {
	// Look tells what a database is, within a few seconds. Its error holds nothing of the URL.
	Look(ctx context.Context, url string) (Database, error)
}

// Database is what parity compares of a database.
type Database struct {
	Version int   // major
	Rows    int64 // as the database itself estimates them
}

const gateParity = "parity"

// atPar stops the delivery before Deploy staging when staging and production differ in what nobody has declared.
func (r *run) atPar(ctx context.Context) error {
	p, err := r.parity(ctx)
	if err != nil {
		return err
	}
	refused := undeclared(p)
	gate := passed("%s", p)
	if refused != nil {
		gate = domain.Gate{State: gateRefused, Detail: p.String()}
	}
	gate.Name = gateParity
	told := false
	r.update(ctx, func(d *domain.Delivery) {
		told = slices.ContainsFunc(d.Gates, func(g domain.Gate) bool { return g.Name == gate.Name })
		if !told {
			d.Gates = append(slices.Clone(d.Gates), gate)
		}
		d.Stages[2].Notes = p.Lines()
	})
	if !told {
		r.event(ctx, domain.Event{Type: "gate." + gate.State, Stage: domain.DeployStaging, Data: map[string]any{"gate": gate.Name, "detail": gate.Detail}})
	}
	return refused
}

// parityGate shows again, before production, what was compared before staging.
func (r *run) parityGate(ctx context.Context) (domain.Gate, error) {
	p, err := r.parity(ctx)
	if err != nil {
		return domain.Gate{}, err
	}
	return passed("%s", p), undeclared(p)
}

// parity compares the environments once for the delivery, before anything of it is deployed.
func (r *run) parity(ctx context.Context) (config.Parity, error) {
	return journal.Do(ctx, r.journal(), gateParity, func(ctx context.Context) (config.Parity, error) {
		return r.s.compare(ctx, r.file, r.last)
	})
}

// compare compares by the file and by what runs.
func (s *Service) compare(ctx context.Context, file, last *config.File) (config.Parity, error) {
	values := map[domain.Environment]map[string]domain.Secret{}
	for _, env := range domain.Environments {
		set, _, err := s.ports.Secrets.Resolve(ctx, string(file.App), file, env)
		if err != nil {
			return config.Parity{}, err
		}
		values[env] = set
	}
	facts := emptySecrets(file, values)
	found, unknown := s.databases(ctx, file, values)
	return config.ParityOf(file, last, append(facts, found...), unknown), ctx.Err()
}

// emptySecrets finds secrets that one of the environments has and the other has not.
func emptySecrets(file *config.File, values map[domain.Environment]map[string]domain.Secret) (list []config.Difference) {
	for _, name := range file.SecretNames() {
		staging, production := values[domain.Staging][name].Reveal() == "", values[domain.Production][name].Reveal() == ""
		switch {
		case staging == production:
		case staging:
			list = append(list, config.Difference{ID: "secrets." + name, What: "empty in staging, set in production", Fact: true})
		default:
			list = append(list, config.Difference{ID: "secrets." + name, What: "set in staging, empty in production", Fact: true})
		}
	}
	return list
}

// databases compares the app's database in both environments. What could not be asked is told, and never taken for the same.
func (s *Service) databases(ctx context.Context, file *config.File, values map[domain.Environment]map[string]domain.Secret) (facts []config.Difference, unknown []string) {
	name := databaseSecret(file)
	if name == "" {
		return nil, nil
	}
	if s.ports.Databases == nil {
		return nil, []string{"the databases: this server asks none"}
	}
	looks := map[domain.Environment]Database{}
	for _, env := range domain.Environments {
		look, err := s.ports.Databases.Look(ctx, values[env][name].Reveal())
		if err != nil {
			unknown = append(unknown, fmt.Sprintf("the databases: %s's: %s", env, err))
			continue
		}
		looks[env] = look
	}
	if len(unknown) > 0 {
		return nil, unknown
	}
	staging, production := looks[domain.Staging], looks[domain.Production]
	if staging.Version != production.Version {
		facts = append(facts, config.Difference{ID: config.DatabaseVersion, Fact: true,
			What: fmt.Sprintf("PostgreSQL %d in staging, %d in production", staging.Version, production.Version)})
	}
	if production.Rows >= config.ParityRows && staging.Rows*config.ParityShare < production.Rows {
		facts = append(facts, config.Difference{ID: config.DatabaseRows, Fact: true,
			What: fmt.Sprintf("about %s rows in staging, %s in production: less than a tenth", domain.Thousands(staging.Rows), domain.Thousands(production.Rows))})
	}
	return facts, nil
}

// databaseSecret names the secret that is the database's URL, "" when there is none.
func databaseSecret(file *config.File) string {
	name := "DATABASE_URL"
	if m := file.Migrations; m != nil && m.Database != "" {
		name = string(m.Database)
	}
	if !slices.Contains(file.SecretNames(), name) {
		return ""
	}
	return name
}

// undeclared is the refusal of differences that nobody declared; nil when there are none.
func undeclared(p config.Parity) error {
	var told, ids []string
	later := false
	for _, d := range p.Undeclared() {
		text := d.ID + ": " + d.What
		if d.Later {
			later = true
			text += " (declared by this commit: it counts from the next delivery on)"
		} else {
			ids = append(ids, d.ID+": <reason>")
		}
		told = append(told, text)
	}
	if len(told) == 0 {
		return nil
	}
	err := domain.Errorf(domain.Refused, "staging and production differ, and it is not declared: %s", strings.Join(told, "; "))
	switch {
	case later && len(ids) == 0:
		return err.WithHint("ship the declaration without the difference first, then the difference")
	case later:
		return err.WithHint("make them the same; or ship the declarations first, parity: { %s }, then the differences", strings.Join(ids, ", "))
	default:
		return err.WithHint("make them the same, or declare what is on purpose: parity: { %s }", strings.Join(ids, ", "))
	}
}

// planParity compares for a plan. What stops the line is why it would be refused.
func (s *Service) planParity(ctx context.Context, v *PlanView, file, last *config.File) error {
	p, err := s.compare(ctx, file, last)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil { // a secret that is missing: the plan says so elsewhere, and compares the rest
		p = config.ParityOf(file, last, nil, []string{err.Error()})
	}
	v.Parity = p.String()
	if len(p.Unused) > 0 {
		v.Parity += ", declared and no longer different: " + strings.Join(p.Unused, ", ")
	}
	if err := undeclared(p); err != nil && v.Refused == "" {
		v.Refused = err.Error()
	}
	return nil
}
