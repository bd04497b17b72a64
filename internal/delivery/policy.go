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

// Policy is what the administrator of the server demands, outside of every repository.
type Policy interface {
	// Floors returns what is demanded of an app now.
	Floors(app string) domain.Floors
	// Person returns whom a user name, a full name or an address belongs to; "" when nobody said.
	Person(identity string) string
}

// People is what the machine knows of its users.
type People interface {
	// Members lists the users of a group; found is false when there is no group of this name.
	Members(group string) (users []string, found bool)
	// FullName returns the name of a user as the machine has it, "" for none; found is false when there is no such user.
	FullName(user string) (name string, found bool)
}

// noPolicy demands nothing and knows nobody.
type noPolicy struct{}

func (noPolicy) Floors(string) domain.Floors     { return domain.Floors{} }
func (noPolicy) Person(string) string            { return "" }
func (noPolicy) Members(string) ([]string, bool) { return nil, false }
func (noPolicy) FullName(string) (string, bool)  { return "", false }

func (s *Service) policy() Policy {
	if s.ports.Policy == nil {
		return noPolicy{}
	}
	return s.ports.Policy
}

func (s *Service) people() People {
	if s.ports.People == nil {
		return noPolicy{}
	}
	return s.ports.People
}

// effective is the file that a delivery is held to: its own, or what is stricter of it in the file of the last delivery that
// was done, and at least what the policy demands. It says what was loosened, and what the policy changed.
func effective(own, last *config.File, floors domain.Floors) (file *config.File, loosened, raised []string) {
	file, loosened = config.Stricter(own, last)
	if loosened == nil {
		loosened = []string{}
	}
	file, raised = config.Raise(file, config.Floors{Bake: floors.Bake, Monitor: floors.Monitor})
	for i := range raised {
		raised[i] += ": the server's policy"
	}
	if floors.Need > 0 {
		raised = append(raised, fmt.Sprintf("approvals: %d of %s: the server's policy", floors.Need, strings.Join(floors.From, ", ")))
	}
	if len(floors.Levels) > 0 {
		raised = append(raised, "tests must be counted in "+strings.Join(floors.Levels, ", ")+": the server's policy")
	}
	if len(floors.Branches) > 0 {
		raised = append(raised, fmt.Sprintf("commits are from %s of %s: the server's policy", strings.Join(floors.Branches, " or "), floors.Remote))
	}
	return file, loosened, raised
}

// PolicyChanged tells that the server's policy is another, or that its file is wrong.
func (s *Service) PolicyChanged(ctx context.Context, text string) {
	s.emit(ctx, domain.Event{Type: "policy.changed", By: "belay", Data: map[string]any{"policy": text}})
}

// loosenedBy says what a file would loosen.
func loosenedBy(own, last *config.File) []string {
	_, loosened, _ := effective(own, last, domain.Floors{})
	return loosened
}

// judgedBy fixes by what the delivery is judged: once, also over a restart. What judges it is nowhere read from its own file.
func (r *run) judgedBy(ctx context.Context, own *config.File) error {
	to, err := journal.Do(ctx, r.journal(), "judged by", func(ctx context.Context) (judgement, error) {
		number, err := r.s.lastDoneNumber(ctx, r.d.App, r.d.Number)
		return judgement{Last: number, Floors: r.s.policy().Floors(r.d.App)}, err
	})
	if err != nil {
		return err
	}
	last, err := r.s.fileOf(ctx, r.d.App, to.Last)
	if err != nil {
		return err
	}
	set, file := newSettings(own, last, to.Floors)
	if r.d.Urgent != "" {
		set = set.urgent(to.Floors.Bake)
	}
	r.file, r.last, r.judge = file, last, to.Last
	r.settings, err = journal.Do(ctx, r.journal(), "settings", func(context.Context) (settings, error) { return set, nil })
	return err
}

// judgement is the delivery whose file, and the policy, that another delivery is held to.
type judgement struct {
	Last   int           `json:"last"` // 0: none was done before
	Floors domain.Floors `json:"floors"`
}

// admitPolicy refuses what the policy will not let pass, before anything is stored.
func (s *Service) admitPolicy(ctx context.Context, file *config.File, commit Commit) error {
	floors := s.policy().Floors(string(file.App))
	for _, l := range file.Test.Level() {
		if slices.Contains(floors.Levels, l.Name) && l.Level.Run.Zero() {
			return domain.Errorf(domain.Refused, "the server's policy demands tests in %s, and the file says none: %s", l.Name, l.Level.None).
				WithHint("write test.%s.run; only the administrator can change %s", l.Name, floors.File)
		}
	}
	if len(floors.Branches) == 0 {
		return nil
	}
	short, branches := domain.ShortCommit(commit.SHA), strings.Join(floors.Branches, " or ")
	if floors.Remote == "" {
		return domain.Errorf(domain.Refused, "the server's policy demands a commit of %s, and names no remote from which that can be proven", branches).
			WithHint("the administrator adds remote: to %s", floors.File)
	}
	found, err := s.ports.Source.Reachable(ctx, string(file.App), commit.SHA, floors.Remote, floors.Branches)
	if err != nil {
		return domain.Errorf(domain.Refused, "the server's policy demands a commit of %s, and %s could not be asked: %w", branches, floors.Remote, err).
			WithHint("ship again when it answers; only the administrator can change %s", floors.File)
	}
	if !found {
		return domain.Errorf(domain.Refused, "%s is not reachable from %s of %s, which the server's policy demands", short, branches, floors.Remote).
			WithHint("merge it and push, then ship; only the administrator can change %s", floors.File)
	}
	return nil
}

// countedLevels is red where the policy demands tests and none was counted.
func (r *run) countedLevels(levels []domain.LevelRecord) error {
	floors := r.s.policy().Floors(r.d.App)
	for _, name := range floors.Levels {
		i := slices.IndexFunc(levels, func(l domain.LevelRecord) bool { return l.Level == name })
		if i >= 0 && levels[i].Counted && levels[i].Passed > 0 {
			continue
		}
		return domain.Errorf(domain.Refused, "the server's policy demands at least one counted test in %s, and none was", name).
			WithHint("give test.%s a report, or go test -json; only the administrator can change %s", name, floors.File)
	}
	return nil
}
