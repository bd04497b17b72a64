package suite

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keyVersion changes whenever what a key is made of changes: a result of another version is never used again.
const keyVersion = "1"

// ErrUnprepared says that the hash of the files is known only once they are there.
var ErrUnprepared = errors.New("the files are not prepared")

// key is what a level's result depends on.
type key struct {
	inputs, world string
	parts         map[string]string
	services      []string // their versions
}

// once runs prepare at most once; ready reports whether it ran.
func once(prepare func(context.Context) error) *preparation {
	return &preparation{prepare: prepare, done: prepare == nil}
}

type preparation struct {
	prepare func(context.Context) error
	done    bool
}

func (p *preparation) run(ctx context.Context) error {
	if p.done {
		return nil
	}
	p.done = true
	return p.prepare(ctx)
}

// remembered answers a level from memory, or runs it and remembers how it ended. An error means that nothing can be said.
func (s *Suite) remembered(ctx context.Context, req Request, i int, prepare *preparation) (Result, error) {
	began, level := time.Now(), req.Levels[i]
	if s.Memory == nil || s.World == nil || req.Files == nil {
		if err := prepare.run(ctx); err != nil {
			return Result{}, err
		}
		return s.level(ctx, req, level), nil
	}
	services, err := s.versions(ctx, level)
	if err != nil {
		return Result{Level: level.Name, State: Failed, Reason: err.Error(), Took: time.Since(began)}, nil
	}
	k, known, err := s.lookup(ctx, req, i, services)
	if known == nil && (err == nil || errors.Is(err, ErrUnprepared)) && !prepare.done {
		if err := prepare.run(ctx); err != nil {
			return Result{}, err
		}
		k, known, err = s.lookup(ctx, req, i, services)
	}
	if err != nil {
		return Result{}, fmt.Errorf("inputs of %s: %w", level.Name, err)
	}
	if known != nil {
		return again(*known, time.Since(began)), nil
	}
	s.explain(ctx, req, level, k)
	watch := &watched{runner: s.Runner, given: environmentOf(req, level)}
	runner := *s
	packages := &goTests{runner: watch, salt: s.salt(ctx, req, level, k), files: k.parts["files"], top: cmp.Or(req.Top, req.Dir)}
	defer packages.end()
	runner.Runner = packages
	r := runner.level(ctx, req, level)
	if r.Cached > 0 {
		r.CachedFrom = "earlier runs" // of one package or another
	}
	if ctx.Err() != nil {
		return r, nil // whoever cancelled it says so; it ended early, so nothing is known
	}
	if err := s.compare(ctx, req.App, k, &r); err != nil {
		return r, err
	}
	return r, s.remember(ctx, req, i, k, r, watch)
}

// lookup computes a level's key and finds the run that it may be answered from.
func (s *Suite) lookup(ctx context.Context, req Request, i int, services []string) (key, *Run, error) {
	k, err := s.key(ctx, req, i, services)
	if err != nil || req.Fresh {
		return k, nil, err
	}
	known, err := s.Memory.Green(ctx, req.App, req.Levels[i].Name, k.inputs)
	if err != nil || known == nil || usable(*known, req, i, k) {
		return k, known, err
	}
	same, err := s.Memory.Same(ctx, req.App, req.Levels[i].Name, k.inputs)
	for _, run := range same {
		if usable(run, req, i, k) && time.Since(run.At) < maxAge {
			return k, &run, nil
		}
	}
	return k, nil, err
}

// maxAge is how old a run may be that is used.
const maxAge = 30 * 24 * time.Hour

// usable reports whether a run may answer for a level. What a run before a merge found with narrowed inputs holds for its
// own commit only: the files that were left out were those of a branch that nobody had merged.
func usable(run Run, req Request, i int, k key) bool {
	merged := run.Delivery > 0 || len(req.Levels[i].Inputs) == 0 || run.Commit == req.Commit
	return merged && run.Result.State == Passed && run.Once == "" && run.Inputs == k.inputs
}

func (s *Suite) versions(ctx context.Context, level Level) ([]string, error) {
	if s.Services == nil || len(level.Services) == 0 {
		return level.Services, nil
	}
	return s.Services.Versions(ctx, level)
}

// key puts together everything that the result of a level may depend on.
func (s *Suite) key(ctx context.Context, req Request, i int, services []string) (key, error) {
	level := req.Levels[i]
	parts, err := s.World.Parts(ctx, environmentOf(req, level), commandsOf(req, level))
	if err != nil {
		return key{}, err
	}
	for name, text := range req.Fixed {
		parts[name] = digest(text)
	}
	parts["belay"] = keyVersion
	parts["command"] = digest(level.Run, level.Report, level.None)
	parts["settings"] = digest(strconv.Itoa(level.Shards), level.Timeout.String(), list(level.Start), list(level.Inputs), strconv.FormatBool(level.Vouched))
	parts["environment"] = digest(environmentOf(req, level)...)
	parts["services"] = digest(list(level.Services), list(services))
	if len(level.Start) > 0 {
		parts["roles"] = digest(req.Roles)
	}
	parts["levels before"] = before(req.Levels[:i])
	k := key{parts: parts, world: hashOf(parts), services: services}
	if parts["files"], err = req.Files(ctx, level.Inputs); err != nil {
		return k, err
	}
	k.inputs = hashOf(parts)
	return k, nil
}

// environmentOf is the environment that a level always gets. The addresses of its services and roles differ from run to
// run: their versions stand for them.
func environmentOf(req Request, level Level) []string {
	return append(append(slices.Clone(req.Env), "BELAY_LEVEL="+level.Name), level.Env...)
}

// commandsOf are the commands whose programs the result depends on: what the level runs, and what prepared its folder.
func commandsOf(req Request, level Level) []string {
	return []string{level.Run, req.Fixed["build"]}
}

// before stands for what the levels before leave in the folder: that follows from the files, the machine, and this.
func before(levels []Level) string {
	var texts []string
	for _, l := range levels {
		texts = append(texts, l.Name, l.Run, list(l.Env), list(l.Services), list(l.Start))
	}
	return digest(texts...)
}

func hashOf(parts map[string]string) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		texts = append(texts, name, parts[name])
	}
	return digest(texts...)
}

// digest hashes texts so that no two lists of texts have one hash.
func digest(texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		_, _ = io.WriteString(h, strconv.Itoa(len(text))+":"+text) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

func list(texts []string) string { return digest(texts...) }

// again is the result of an earlier run, as this one's.
func again(run Run, took time.Duration) Result {
	r := run.Result
	r.Known, r.Cached, r.CachedFrom, r.Took, r.Cases = true, r.Passed+r.Failed, from(run.Delivery), took, run.Cases
	r.Trend, r.Shards = "", nil // they are of that run
	return r
}

func from(delivery int) string {
	if delivery == 0 {
		return "a run before the merge"
	}
	return fmt.Sprintf("#%d", delivery)
}

// explain says in the log what differs from the newest run of the level, so that nobody has to guess why it runs.
func (s *Suite) explain(ctx context.Context, req Request, level Level, k key) {
	recent, err := s.Memory.Recent(ctx, req.App, level.Name, 1)
	if err != nil || len(recent) == 0 {
		return // it says nothing, and harms nothing
	}
	last := recent[0]
	var differs []string
	for _, name := range slices.Sorted(maps.Keys(k.parts)) {
		if last.Parts[name] != k.parts[name] {
			differs = append(differs, name)
		}
	}
	why := ""
	switch {
	case len(differs) > 0:
		why = "changed since: " + strings.Join(differs, ", ")
	case last.Result.State != Passed:
		why = "it was red, with the same inputs"
	case last.Once != "":
		why = last.Once
	}
	if why != "" {
		_, _ = fmt.Fprintf(req.Log, "%s runs (last in %s): %s\n", level.Name, from(last.Delivery), why)
	}
}

// remember stores how a level ended, and whether its result may be used again.
func (s *Suite) remember(ctx context.Context, req Request, i int, k key, r Result, watch *watched) error {
	level := req.Levels[i]
	run := Run{App: req.App, Level: level.Name, Inputs: k.inputs, World: k.world, Commit: req.Commit, At: time.Now().UTC(),
		Delivery: req.Delivery, Result: r, Cases: r.Cases, Parts: k.parts}
	if !level.Vouched {
		run.Once = watch.once(level)
	}
	unread := req // the tests may write into the folder: it counts as it was before them
	unread.Files = func(context.Context, []string) (string, error) { return k.parts["files"], nil }
	after, err := s.key(ctx, unread, i, k.services)
	if err != nil || after.inputs != k.inputs {
		run.Once = "the machine changed while it ran"
	}
	return s.Memory.Save(ctx, run)
}
