package delivery

import (
	"context"
	"strings"
	"time"
)

// identity is one person of the machine, by every name under which a commit may know them.
type identity struct {
	user   string
	full   string // as the machine has it
	person string // what the policy calls them, else the user name
	mapped bool   // the policy says who it is
}

// identify looks a user up.
func (s *Service) identify(user string) identity {
	full, _ := s.people().FullName(user)
	who := identity{user: user, full: full, person: strings.ToLower(user)}
	if p := s.policy().Person(user); p != "" {
		who.person, who.mapped = strings.ToLower(p), true
	}
	return who
}

// is reports whether a name in a list of people means this person.
func (i identity) is(name string) bool {
	return strings.EqualFold(name, i.user) || i.mapped && strings.EqualFold(name, i.person)
}

// makers are all names and addresses of those who made a commit, or shipped it. What the commit says is its maker's word.
func (s *Service) makers(c Commit, by, login string) []string {
	full, _ := s.people().FullName(by)
	var list []string
	for _, name := range []string{by, full, login, c.Author, c.AuthorEmail, c.Committer, c.CommitterEmail} {
		if name = strings.TrimSpace(name); name != "" {
			list = union(list, []string{name})
		}
	}
	return list
}

// madeBy reports whether one of the names of those who made a commit is this person's. Where the policy knows both, its word
// decides; else the user name, the full name and the local part of the address are compared.
func (s *Service) madeBy(made []string, who identity) bool {
	for _, name := range made {
		if p := s.policy().Person(name); p != "" && who.mapped {
			if strings.EqualFold(p, who.person) {
				return true
			}
			continue
		}
		local, _, _ := strings.Cut(name, "@")
		for _, known := range []string{who.user, who.full, who.person} {
			if known != "" && (strings.EqualFold(known, name) || strings.EqualFold(known, local)) {
				return true
			}
		}
	}
	return false
}

// patience measures how long people have been asked. The clock on the wall may be set meanwhile: set back it prolongs nothing,
// and set ahead it ends the wait at most early, which is told.
type patience struct {
	asked  time.Time     // on the wall, for all lives of the process
	before time.Duration // what had passed when this life began to ask
	began  time.Time     // of this life; it carries the clock that nobody can set
	kept   time.Duration // what is stored of it
}

// waited is what has passed at an instant, and by how much the clock on the wall went ahead in this life of the process.
func (p patience) waited(now time.Time) (long, ahead time.Duration) {
	here := p.before + now.Sub(p.began)
	wall := now.Round(0).Sub(p.asked.Round(0))
	return max(here, wall), max(0, wall-here)
}

// waited returns how long a gate has asked.
func (r *run) waited(ctx context.Context, gate string) (long, ahead time.Duration, err error) {
	r.mu.Lock()
	p, known := r.asked[gate]
	r.mu.Unlock()
	now := time.Now()
	if !known {
		if p.asked, err = r.instant(ctx, gate+" asked"); err != nil {
			return 0, 0, err
		}
		if _, err := r.recall(ctx, gate+" waited", &p.before); err != nil {
			return 0, 0, err
		}
		p.before, p.began = max(p.before, now.Round(0).Sub(p.asked.Round(0))), now
	}
	long, ahead = p.waited(now)
	if long-p.kept >= time.Minute {
		if err := r.remember(ctx, gate+" waited", long); err != nil {
			return 0, 0, err
		}
		p.kept = long
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = map[string]patience{}
	}
	r.asked[gate] = p
	return long, ahead, nil
}
