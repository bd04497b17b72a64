package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/service"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/suite"
)

// openServers lets tests have servers. What an earlier daemon left of them, and of the roles that its tests had started,
// is removed.
func (s *Server) openServers() *service.Manager {
	m := service.New(service.Config{
		Data: s.o.Data, Home: os.Getenv("HOME"), Path: os.Getenv("PATH"), Sandbox: s.box, Accounts: s.runner.accounts,
		Cgroups: s.runner.Workshop(), Log: s.log,
	})
	s.later("servers of tests", m.Close)
	if err := sweepTested(s.o.Data); err != nil {
		s.log.Warn("remove what tests had started", "error", err)
	}
	go func() {
		if err := m.Sweep(s.work); err != nil && s.work.Err() == nil {
			s.log.Warn("remove servers of tests that an earlier server left", "error", err)
		}
	}()
	return m
}

// services gives the levels of one job the servers that they need.
type services struct {
	manager *service.Manager
	runner  *runner
	job     delivery.Job
	place   place
	log     io.Writer

	mu    sync.Mutex
	noted map[string]bool
}

// services returns those of one job.
func (b *builder) services(j delivery.Job, p place, log io.Writer) *services {
	return &services{manager: b.servers, runner: b.runner, job: j, place: p, log: log, noted: map[string]bool{}}
}

// chosen is one service of a level, and what provides it here.
type chosen struct {
	kind string
	service.Installed
	note string // why it is this version, where that is not obvious
}

// String is the service with its version, as people read it.
func (c chosen) String() string { return c.kind + " " + c.Version }

// choose finds what provides the services of a level, before anything runs.
func (s *services) choose(ctx context.Context, level suite.Level) ([]chosen, error) {
	var all []chosen
	for _, text := range level.Services {
		kind, version, _ := strings.Cut(text, " ")
		major, err := strconv.Atoi(version)
		if version != "" && err != nil {
			return nil, domain.Errorf(domain.Invalid, "service %q: no major version", text)
		}
		c, err := s.one(ctx, kind, major)
		if err != nil {
			return nil, plain(err)
		}
		all = append(all, c)
	}
	return all, nil
}

func (s *services) one(ctx context.Context, kind string, major int) (chosen, error) {
	switch kind {
	case "postgres":
		return s.postgres(ctx, major)
	case "redis":
		v, err := service.Redis(ctx, s.place.Path)
		if err == nil && major > 0 && v.Major != major {
			err = domain.Errorf(domain.Invalid, "redis %d is not installed on this server; it has %d", major, v.Major).
				WithHint("write redis, or install that version")
		}
		return chosen{kind: kind, Installed: v}, err
	default:
		return chosen{}, domain.Errorf(domain.Invalid, "%s cannot be provided for tests yet", kind).
			WithHint("start one for the tests, and give its address in the env of this level")
	}
}

// postgres chooses the major version that is asked for, else production's, else the newest that is installed.
func (s *services) postgres(ctx context.Context, major int) (chosen, error) {
	why, note := "", ""
	if major == 0 {
		if major = s.manager.Production(ctx, s.job.Delivery.App, s.databases); major > 0 {
			why = ", and production runs it"
		} else {
			note = "production's version is not known: this is the newest that is installed"
		}
	}
	v, err := service.Choose(service.Postgres(ctx, s.place.Path), major, why)
	return chosen{kind: "postgres", Installed: v, note: note}, err
}

// databases lists what the release of production that came last may have as its database. The file of a commit is not
// asked: it may be one that nobody has reviewed.
func (s *services) databases(ctx context.Context) []string {
	if s.runner.releases == nil {
		return nil
	}
	list, err := s.runner.releases(ctx, s.job.Delivery.App, domain.Production)
	if err != nil || len(list) == 0 {
		return nil
	}
	newest := slices.MaxFunc(list, func(a, b domain.Release) int { return strings.Compare(a.ID, b.ID) })
	var urls []string
	for _, w := range newest.Workloads {
		for _, name := range w.Secrets {
			if name == s.variable() && w.Env[name] != "" && !slices.Contains(urls, w.Env[name]) {
				urls = append(urls, w.Env[name])
			}
		}
	}
	return urls
}

// variable is the one with the database's URL.
func (s *services) variable() string {
	if m := s.job.File.Migrations; m != nil && m.Database != "" {
		return string(m.Database)
	}
	return "DATABASE_URL"
}

// migrations are how the databases of a level get their schema.
func (s *services) migrations(level suite.Level) service.Migrations {
	m := service.Migrations{Variable: s.variable(), Folder: s.place.dir, Log: s.log, Runner: confined{box: s.runner.box, place: s.place}}
	if f := s.job.File.Migrations; f != nil {
		m.Tool, m.Up, m.Status, m.Dir = string(f.Tool), f.Up.Text, f.Status.Text, string(f.Dir)
		m.Timeout = time.Duration(f.Timeout)
	}
	// What differs from one commit to the next would make each of them a template of its own.
	m.Env = slices.DeleteFunc(append(s.place.env(s.job.Delivery), level.Env...), func(kv string) bool {
		return strings.HasPrefix(kv, "BELAY_COMMIT=")
	})
	slices.Sort(m.Env)
	return m
}

// Versions names what Provide would use.
func (s *services) Versions(ctx context.Context, level suite.Level) ([]string, error) {
	all, err := s.choose(ctx, level)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range all {
		out = append(out, c.String())
		if c.kind != "postgres" {
			continue
		}
		entries, err := s.entries(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, "postgres template "+s.migrations(level).Planned(entries).Key(c.Major))
	}
	return out, nil
}

// entries lists the files of the commit in the app's folder.
func (s *services) entries(ctx context.Context) ([]service.Entry, error) {
	d := s.job.Delivery
	tree, err := source.Tree(ctx, repoDir(s.runner.data, d.App), d.Commit)
	if err != nil {
		return nil, err
	}
	var entries []service.Entry
	for _, e := range tree {
		name := e.Path
		if folder := path.Clean(d.Folder); folder != "." {
			inside, ok := strings.CutPrefix(name, folder+"/")
			if !ok {
				continue
			}
			name = inside
		}
		entries = append(entries, service.Entry{Name: name, Hash: e.Mode + " " + e.SHA, Link: e.Mode == "120000" || e.Mode == "160000"})
	}
	return entries, nil
}

// Provide starts what is missing and gives one part of a level a database and servers of its own.
func (s *services) Provide(ctx context.Context, level suite.Level, _ int) (env, names []string, release func(context.Context) error, err error) {
	all, err := s.choose(ctx, level)
	if err != nil {
		return nil, nil, nil, err
	}
	var ends []func(context.Context) error
	release = func(ctx context.Context) error {
		var errs []error
		for _, end := range slices.Backward(ends) {
			errs = append(errs, end(ctx))
		}
		return errors.Join(errs...)
	}
	for _, c := range all {
		given, end, err := s.provide(ctx, level, c)
		if err != nil {
			return nil, nil, nil, errors.Join(plain(err), release(context.WithoutCancel(ctx)))
		}
		ends, env, names = append(ends, end), append(env, given...), append(names, c.String())
		s.note(c)
	}
	return env, names, release, nil
}

// note tells once why a version was chosen.
func (s *services) note(c chosen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.note == "" || s.noted[c.kind] {
		return
	}
	s.noted[c.kind] = true
	_, _ = fmt.Fprintf(s.log, "%s: %s\n", c, c.note)
}

// provide starts one service.
func (s *services) provide(ctx context.Context, level suite.Level, c chosen) (env []string, end func(context.Context) error, err error) {
	app := s.job.Delivery.App
	if c.kind == "redis" {
		url, stop, err := s.manager.StartRedis(ctx, app, c.Installed)
		return []string{"REDIS_URL=" + url}, stop, err
	}
	m, err := s.migrations(level).Read()
	if err != nil {
		return nil, nil, err
	}
	began := time.Now()
	d, err := s.manager.Fresh(ctx, service.Customer{App: app, Unmerged: delivery.IsTest(s.job.Delivery)}, c.Installed, m)
	if err != nil {
		return nil, nil, err
	}
	how := "a fresh database"
	if d.Made {
		how = "a template and a fresh database"
	}
	_, _ = fmt.Fprintf(s.log, "%s: %s in %d ms\n", c, how, time.Since(began).Milliseconds())
	return d.Env(m.Variable), d.Drop, nil
}

// plain puts the hint of an error into its text: the reason of a red level is one line.
func plain(err error) error {
	var known *domain.Error
	if errors.As(err, &known) && known.Hint != "" && !strings.Contains(err.Error(), known.Hint) {
		return fmt.Errorf("%w: %s", err, known.Hint)
	}
	return err
}
