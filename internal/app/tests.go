package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/suite"
)

// Test answers the three levels from earlier runs, or runs them in the checkout that was built.
func (b *builder) Test(ctx context.Context, j delivery.Job, a delivery.Artifact) ([]domain.LevelRecord, []string, error) {
	d := j.Delivery
	p, err := b.place(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = b.leave(p) }() // what stays is removed by the next one
	log := secrets.NewMasker(b.secrets.known(d.App)...).Writer(j.Log)
	defer func() { _ = log.Close() }()
	if err := p.emptyTmp(); err != nil {
		return nil, nil, err
	}
	files, err := b.testFiles(ctx, j, p, log)
	if err != nil {
		return nil, nil, err
	}
	run := confined{box: b.runner.box, place: p}
	s := &suite.Suite{Runner: run, Starter: &starter{b.runner, j, a}, Services: b.services(j, p, log), Memory: trust(testMemory{b.runs}, j),
		World: &suite.World{Runner: run, Home: p.lies("home"), Memo: &b.memo, Answers: &b.answers}}
	var levels []domain.LevelRecord
	pyramid, err := s.Run(ctx, b.testRequest(j, p, a, files, log), func(r suite.Result) {
		levels = append(levels, levelRecord(r))
		j.Level(levelRecord(r))
		failures(j, r)
	})
	if err != nil {
		return levels, pyramid.Warnings, err
	}
	return levels, pyramid.Warnings, redLevel(pyramid)
}

func (b *builder) testRequest(j delivery.Job, p place, a delivery.Artifact, files *testFiles, log io.Writer) suite.Request {
	d := j.Delivery
	mode, _ := b.runner.box.Probe()
	number := d.Number
	if delivery.IsTest(d) {
		number = 0
	}
	return suite.Request{
		App: d.App, Commit: d.Commit, Delivery: number, Top: p.Checkout(), Dir: p.dir, Env: p.testEnv(d), Levels: levelsOf(j.File), Log: log,
		Files: files.hash, Prepare: files.prepare, Fresh: j.Fresh, Roles: rolesOf(j.File, a),
		Fixed: map[string]string{"build": j.File.Build.Run.Text, "confinement": fmt.Sprint(mode, p.Account.UID, p.Account.GID, sandbox.WorkshopMemory()),
			"folder": p.Seen(p.dir)},
	}
}

// testEnv is the environment of the levels: that of the build without the name of the commit. The same files of another
// commit, as a merge makes one, are the same tests.
func (p place) testEnv(d domain.Delivery) []string {
	return slices.DeleteFunc(p.env(d), func(pair string) bool { return strings.HasPrefix(pair, "BELAY_COMMIT=") })
}

// lies is where a folder of the workshop really is.
func (p place) lies(name string) string { return filepath.Join(filepath.Dir(p.Checkout()), name) }

// emptyTmp takes away what earlier commands left in /tmp: no hash covers it.
func (p place) emptyTmp() error {
	if err := os.RemoveAll(p.lies("tmp")); err != nil {
		return err
	}
	return p.Make()
}

// rolesOf stands for what levels with roles start.
func rolesOf(f *config.File, a delivery.Artifact) string {
	workloads, err := json.Marshal(config.Workloads(f, domain.Staging))
	if err != nil {
		panic(err) // they were read from a file
	}
	return a.Digest + string(workloads)
}

// failures tells whoever asks which tests failed.
func failures(j delivery.Job, r suite.Result) {
	if j.Failure == nil {
		return
	}
	for _, f := range r.Failures {
		j.Failure(delivery.Failure{Level: r.Level, Name: f.Name, Message: f.Message, Output: f.Output})
	}
}

func redLevel(p suite.Pyramid) error {
	red := p.Red()
	if red == nil {
		return nil
	}
	text := red.Reason
	for i, f := range red.Failures {
		if i == 3 {
			text += fmt.Sprintf("; and %d more", red.Failed-i)
			break
		}
		text += "; " + f.Name
		if f.Message != "" {
			text += ": " + firstLine(f.Message)
		}
	}
	return domain.Errorf(domain.Failed, "%s: %s", red.Level, text).WithHint("belay logs --stage test shows all of it")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

func levelRecord(r suite.Result) domain.LevelRecord {
	l := domain.LevelRecord{Level: r.Level, State: "failed", Reason: r.Reason, Passed: r.Passed, Failed: r.Failed,
		Skipped: r.Skipped, Counted: r.Counted, Took: r.Took.Seconds(), Cached: r.Cached, CachedFrom: r.CachedFrom,
		Services: r.Services, Trend: r.Trend, Warnings: r.Warnings}
	switch r.State {
	case suite.Passed:
		l.State = "done"
	case suite.Gap:
		l.State = "none"
	case suite.NotRun:
		l.State = "pending"
	}
	if len(r.Slowest) > 0 {
		l.Slowest, l.SlowTook = r.Slowest[0].Name, r.Slowest[0].Took.Seconds()
	}
	for _, slow := range r.Slowest[:min(len(r.Slowest), 5)] {
		l.Slow = append(l.Slow, domain.SlowTest{Name: slow.Name, Took: slow.Took.Seconds(), Usual: slow.Usual.Seconds()})
	}
	for _, f := range r.Flaky {
		l.Flaky = append(l.Flaky, f.String())
	}
	for _, took := range r.Shards {
		l.Shards = append(l.Shards, took.Seconds())
	}
	return l
}

func levelsOf(f *config.File) []suite.Level {
	var levels []suite.Level
	for _, l := range f.Test.Level() {
		level := suite.Level{Name: l.Name, Run: l.Level.Run.Text, None: string(l.Level.None), Report: string(l.Level.Report),
			Shards: int(l.Level.Shards), Timeout: time.Duration(l.Level.Timeout)}
		for _, v := range l.Level.Services {
			level.Services = append(level.Services, v.String())
		}
		for _, r := range l.Level.Start {
			level.Start = append(level.Start, string(r))
		}
		for _, k := range slices.Sorted(maps.Keys(l.Level.Env)) {
			level.Env = append(level.Env, k+"="+string(l.Level.Env[k]))
		}
		level.Inputs, level.Vouched = pathTexts(l.Level.Inputs), len(l.Level.Inputs) > 0
		if !level.Vouched && f.Has("inputs") {
			level.Inputs = pathTexts(f.Inputs)
		}
		levels = append(levels, level)
	}
	return levels
}
