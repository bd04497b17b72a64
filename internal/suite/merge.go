package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

// sharedReport watches a report that all parts write to: each must leave files of its own in it.
type sharedReport struct {
	pattern string // "": each part has its own
	before  reports

	mu      sync.Mutex
	written map[string]stamp // whole reports that were there when a part ended
	twice   string           // one of them that was written again
}

// look notes which reports are there after a part has ended.
func (s *sharedReport) look(root *os.Root) {
	if s.pattern == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := look(root, s.pattern)
	if err != nil {
		return // reading it at the end says so
	}
	for name, is := range now {
		if was, seen := s.written[name]; seen && was != is {
			s.twice = name
		}
		if was, there := s.before[name]; there && was == is {
			continue
		}
		if _, err := readReport(root, name); err == nil { // one that is not whole is still being written by its part
			s.written[name] = is
		}
	}
}

// read counts what the parts wrote. n is how many there were.
func (s *sharedReport) read(root *os.Root, n int) (tally, bool, error) {
	t, counted, err := s.before.read(root, s.pattern)
	s.mu.Lock()
	defer s.mu.Unlock()
	hint := fmt.Sprintf("give each its own: put $%s into the name, in the command and in report", envShard)
	switch {
	case err != nil:
	case s.twice != "":
		err = domain.Errorf(domain.Failed, "two parts wrote the report %s: %s", s.twice, hint)
	case len(s.written) < n:
		err = domain.Errorf(domain.Failed, "%d parts left %d reports in %s: %s", n, len(s.written), s.pattern, hint)
	}
	return t, counted, err
}

// merge puts together what the parts of a level came to. One red part makes it red; what failed in each is shown.
func merge(level Level, p plan, outcomes []partOutcome, shared *sharedReport, root *os.Root) Result {
	var all outcome
	all.counted = true
	var faults []error
	r := Result{Level: level.Name, State: Failed}
	for i, o := range outcomes {
		r.Shards = append(r.Shards, o.took)
		if o.report != nil {
			faults = append(faults, fmt.Errorf("%s: %w", partName(i, outcomes), o.report))
		}
		all.t.add(o.t)
		all.counted = all.counted && o.counted
		for _, w := range o.warnings {
			r.Warnings = append(r.Warnings, partName(i, outcomes)+": "+w)
		}
		for _, v := range o.versions {
			if !slices.Contains(r.Services, v) {
				r.Services = append(r.Services, v)
			}
		}
	}
	if shared.pattern != "" {
		t, counted, err := shared.read(root, len(outcomes))
		all.t, all.counted = t, counted
		if err != nil {
			faults = append(faults, err)
		}
	}
	r.Counted = all.counted
	r.fill(all.t)
	r.judge(endOf(p, outcomes, all.t.Failed > 0 && shared.pattern != ""), joined(faults))
	r.Warnings = append(r.Warnings, p.notes...)
	return r
}

func partName(i int, of []partOutcome) string { return fmt.Sprintf("part %d of %d", i+1, len(of)) }

// endOf is how the commands of the parts ended, as one error: nil when all were well. An exit code that failed tests
// explain, those of the part or, where told is set, those of all, needs no words.
func endOf(p plan, outcomes []partOutcome, told bool) error {
	var ends []error
	var explained error
	for i, o := range outcomes {
		exit, exited := o.ended.(*command.ExitError) //nolint:errorlint // not wrapped by contract
		switch {
		case o.ended == nil || p.bare && nothingFound(o):
		case exited && (o.t.Failed > 0 || told):
			explained = exit
		case o.t.Failed > 0:
			ends = append(ends, fmt.Errorf("%s: %s", partName(i, outcomes), because(o.ended)))
		default:
			ends = append(ends, fmt.Errorf("%s: %s%s", partName(i, outcomes), because(o.ended), o.said))
		}
	}
	if len(ends) > 0 {
		return joined(ends)
	}
	return explained
}

// nothingFound reports a part in which pytest found no test: a file may have none.
func nothingFound(o partOutcome) bool {
	var exit *command.ExitError
	return errors.As(o.ended, &exit) && exit.Code == 5 && len(o.t.Cases) == 0 && o.t.Failed == 0
}

// joined makes one line of errors; nil of none.
func joined(list []error) error {
	if len(list) == 0 {
		return nil
	}
	text := ""
	for i, err := range list {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return errors.New(text)
}

// surround gives one part of a level services and roles of its own. Leave takes them away and says what did not go well;
// it is nil only when there is an error, and then nothing is left.
func (s *Suite) surround(ctx context.Context, level Level, env []string, part int) (all, versions []string, leave func() []string, err error) {
	all = slices.Clone(env)
	var ends []func() error
	leave = func() []string {
		var warnings []string
		for _, end := range slices.Backward(ends) {
			if err := end(); err != nil {
				warnings = append(warnings, err.Error())
			}
		}
		return warnings
	}
	if len(level.Services) > 0 {
		if s.Services == nil {
			return nil, nil, nil, domain.Errorf(domain.Failed, "nothing here can give it services")
		}
		given, names, release, err := s.Services.Provide(ctx, level, part)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("its services: %w", err)
		}
		versions, all = names, append(all, given...)
		level.Env = append(slices.Clone(level.Env), given...) // the roles use them too
		ends = append(ends, func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
			defer cancel()
			if err := release(ctx); err != nil {
				return fmt.Errorf("a service did not stop cleanly: %w", err)
			}
			return nil
		})
	}
	if len(level.Start) > 0 {
		given, stop, err := s.start(ctx, level)
		if err != nil {
			leave()
			return nil, nil, nil, fmt.Errorf("its roles did not start: %w", err)
		}
		ends = append(ends, func() error {
			if err := stop(); err != nil {
				return fmt.Errorf("a role did not stop cleanly: %w", err)
			}
			return nil
		})
		all = append(all, given...)
	}
	return all, versions, leave, nil
}
