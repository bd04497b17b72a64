package app

import (
	"bufio"
	"context"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/policy"
)

// policyEvery is how often the policy file is looked at.
const policyEvery = 2 * time.Second

// openPolicy reads the server's policy before anything that it judges.
func (s *Server) openPolicy(context.Context) error {
	path, optional := s.o.Policy, false
	if path == "" {
		path, optional = s.path("policy.yaml"), true
	}
	var err error
	s.policy, err = policy.Open(path, optional)
	return err
}

// watchPolicy reads it again whenever it changes. A wrong one is told, and the last right one holds.
func (s *Server) watchPolicy(ctx context.Context) {
	s.policy.Watch(ctx, policyEvery, func(text string, err error) {
		if err != nil {
			s.log.Error("read the policy: the last right one holds", "error", err)
		} else {
			s.log.Warn("the policy has changed", "policy", text)
		}
		s.service.PolicyChanged(ctx, text)
	})
}

// people are the users of this machine.
type people struct{}

// FullName returns what the machine has as a user's name: the first field of what other systems call GECOS.
func (people) FullName(name string) (string, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", false
	}
	full, _, _ := strings.Cut(u.Name, ",")
	return strings.TrimSpace(full), true
}

// Members lists the users of a group: those that the group names, and those whose own group it is.
func (people) Members(name string) ([]string, bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return nil, false
	}
	var members []string
	lines("/etc/group", func(f []string) {
		if len(f) == 4 && f[0] == name && f[3] != "" {
			members = append(members, strings.Split(f[3], ",")...)
		}
	})
	lines("/etc/passwd", func(f []string) {
		if len(f) == 7 && f[3] == g.Gid {
			members = append(members, f[0])
		}
	})
	slices.Sort(members)
	return slices.Compact(members), true
}

// lines calls f with the fields of each line of a file of the machine. One that is not there has none.
func lines(path string, f func(fields []string)) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer func() { _ = file.Close() }()
	for scan := bufio.NewScanner(file); scan.Scan(); {
		f(strings.Split(scan.Text(), ":"))
	}
}

// groupID looks a group of this machine up; "" is none.
func groupID(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, domain.Errorf(domain.Invalid, "--group %s: %w", name, err).WithHint("groupadd %s, and usermod -aG %s USER for each member", name, name)
	}
	return strconv.Atoi(g.Gid)
}
