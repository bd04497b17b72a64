package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/suite"
)

// Test runs the three levels in the checkout that was built.
func (b *builder) Test(ctx context.Context, j delivery.Job, a delivery.Artifact) ([]domain.LevelRecord, []string, error) {
	d := j.Delivery
	p, err := b.place(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = b.leave(p) }() // what stays is removed by the next one
	log := secrets.NewMasker(b.secrets.known(d.App)...).Writer(j.Log)
	defer func() { _ = log.Close() }()
	if err := b.prepare(ctx, j, p, log); err != nil {
		return nil, nil, err
	}
	s := &suite.Suite{Runner: confined{box: b.runner.box, place: p}, Starter: &starter{b.runner, j, a}}
	var levels []domain.LevelRecord
	pyramid, err := s.Run(ctx, suite.Request{Dir: p.dir, Env: p.env(d), Levels: levelsOf(j.File), Log: log}, func(r suite.Result) {
		levels = append(levels, levelRecord(r))
		j.Level(levelRecord(r))
		failures(j, r)
	})
	if err != nil {
		return levels, pyramid.Warnings, err
	}
	return levels, pyramid.Warnings, redLevel(pyramid)
}

// prepare makes sure that the checkout holds what the build of this commit left in it. A reused artifact, or another
// delivery in between, means that it does not.
func (b *builder) prepare(ctx context.Context, j delivery.Job, p place, log io.Writer) error {
	if text, err := os.ReadFile(p.built); err == nil && string(text) == p.mark {
		return nil
	}
	commit, tracked, err := b.checkout(ctx, j.Delivery, j.File, p)
	if err != nil || j.File.Build.Run.Zero() {
		return err
	}
	_, _ = fmt.Fprintln(log, "the artifact is reused; build.run prepares the tests only")
	if _, err := b.builder(p, j.Delivery.App).Prepare(ctx, request(j, p, commit, tracked, log)); err != nil {
		return err
	}
	return os.WriteFile(p.built, []byte(p.mark), 0o600)
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
		Skipped: r.Skipped, Counted: r.Counted, Took: r.Took.Seconds()}
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
	return l
}

func levelsOf(f *config.File) []suite.Level {
	var levels []suite.Level
	for _, l := range f.Test.Level() {
		level := suite.Level{Name: l.Name, Run: l.Level.Run.Text, None: string(l.Level.None), Report: string(l.Level.Report),
			Timeout: time.Duration(l.Level.Timeout)}
		for _, r := range l.Level.Start {
			level.Start = append(level.Start, string(r))
		}
		for k, v := range l.Level.Env {
			level.Env = append(level.Env, k+"="+string(v))
		}
		levels = append(levels, level)
	}
	return levels
}

