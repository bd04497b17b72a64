package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

// checkForm is what to do about a linter that changes files.
const checkForm = "use the check form: gofmt -l, prettier --check"

// commands runs lint beside run; the first failure ends the others. Linters see the commit as it is, before run wrote
// anything: a file that the compiler has half written is no finding, whoever of them is faster.
func (b *Builder) commands(ctx context.Context, r Request, result *Result, log *lines) error {
	if len(r.Lint) == 0 {
		return b.parallel(ctx, r, b.Runner, result, log)
	}
	if b.Linter != nil {
		linter, err := b.Linter(ctx)
		if err != nil {
			return err
		}
		if linter != nil {
			return b.parallel(ctx, r, linter, result, log)
		}
	}
	before, err := snap(r.root(), r.Tracked)
	if err != nil {
		return err
	}
	if err := b.parallel(ctx, r, b.Runner, result, log); err != nil {
		return err
	}
	after, err := snap(r.root(), r.Tracked)
	if err != nil {
		return err
	}
	if changed := before.differs(after); len(changed) > 0 {
		return domain.Errorf(domain.Failed, "lint must change no file, but %s changed: %s", files(len(changed)), some(changed)).
			WithHint(checkForm + "; what build.run writes does not belong in the commit")
	}
	return nil
}

func (b *Builder) parallel(ctx context.Context, r Request, linter command.Runner, result *Result, log *lines) error {
	jobs := make([]Command, 0, len(r.Lint)+1)
	if r.Run != "" {
		jobs = append(jobs, Command{Purpose: "build", Run: r.Run})
	}
	for _, lint := range r.Lint {
		jobs = append(jobs, Command{Purpose: "lint", Run: lint})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for i := range jobs {
		wg.Go(func() {
			runner := b.Runner
			if jobs[i].Purpose == "lint" {
				runner = linter
			}
			began := time.Now()
			err := one(ctx, r, runner, &jobs[i], log)
			jobs[i].Took = time.Since(began)
			if err == nil {
				return
			}
			jobs[i].Failed = err.Error()
			mu.Lock()
			defer mu.Unlock()
			if failed == nil {
				failed = err
				cancel(errors.New("another command of the build failed"))
			}
		})
	}
	wg.Wait()
	result.Commands = jobs
	return failed
}

// one runs one command. The command's own words are in the log; the error says which it was and how it ended.
func one(ctx context.Context, r Request, runner command.Runner, c *Command, log *lines) error {
	env := r.Env
	if c.Purpose == "build" {
		env = slices.Concat(env, r.Secret)
	}
	argv, err := command.Script(c.Run, env)
	if err != nil {
		c.Exit = -1
		return domain.Errorf(domain.Invalid, "%s: %w", c.Purpose, err)
	}
	out, said, refused := log.stream(c.Purpose), &counter{}, &spotter{word: []byte("read-only file system")}
	shown := r.masked(out)
	err = runner.Run(ctx, command.Cmd{
		Dir: r.Dir, Argv: argv, Env: env, Stdout: io.MultiWriter(shown, said, refused), Stderr: io.MultiWriter(shown, refused),
		Purpose: c.Purpose, Timeout: r.Timeout,
	})
	c.Exit = exitOf(err)
	err = errors.Join(err, shown.Close(), out.flush())
	if err != nil {
		c.First = out.opened()
		e := domain.Errorf(domain.Failed, "%s failed: %s: %w%s", c.Purpose, headline(c.Run), err, out.said())
		if c.Purpose == "lint" && refused.found() {
			return e.WithHint(checkForm + "; linters see the commit read-only, their caches belong below $HOME or $TMPDIR")
		}
		return e
	}
	if c.Purpose == "lint" && lists(argv) && said.n > 0 {
		c.First = out.opened()
		return domain.Errorf(domain.Failed, "lint failed: %s lists files that are not formatted", headline(c.Run)).
			WithHint("run it with -w here, and commit what it changes")
	}
	return nil
}

// masked is where a command's output goes.
func (r Request) masked(w io.Writer) io.WriteCloser {
	if r.Mask == nil {
		return unmasked{w}
	}
	return r.Mask(w)
}

// unmasked passes on what is written.
type unmasked struct{ io.Writer }

func (unmasked) Close() error { return nil }

// exitOf is the exit code in the error of a command.
func exitOf(err error) int {
	var exit *command.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Signal == 0:
		return exit.Code
	}
	return -1
}

// Note says in one line how a command went.
func (c Command) Note() string {
	text := fmt.Sprintf("%s %s: ", c.Purpose, headline(c.Run))
	took := c.Took.Round(time.Millisecond).String()
	if c.Took > time.Second {
		took = c.Took.Round(100 * time.Millisecond).String()
	}
	switch {
	case c.Failed == "":
		return text + "clean, " + took
	case c.Exit < 0:
		return text + "ended after " + took
	case c.First == "":
		return fmt.Sprintf("%sexit %d, %s", text, c.Exit, took)
	}
	return fmt.Sprintf("%sexit %d, %s, first: %s", text, c.Exit, took, c.First)
}

// lists reports whether a command says what is wrong on stdout and exits 0 all the same, as gofmt -l does.
func lists(argv []string) bool {
	switch path.Base(argv[0]) {
	case "gofmt", "goimports", "gofumpt":
		return slices.ContainsFunc(argv[1:], func(arg string) bool { return arg == "-l" || arg == "-d" })
	}
	return false
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// spotter looks for a word in what is written, also where it is cut between two writes. The case of letters is the same to it.
type spotter struct {
	word []byte

	mu   sync.Mutex
	tail []byte
	seen bool
}

func (s *spotter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.seen {
		text := bytes.ToLower(append(s.tail, p...))
		s.seen = bytes.Contains(text, s.word)
		s.tail = bytes.Clone(text[max(0, len(text)-len(s.word)+1):])
	}
	return len(p), nil
}

func (s *spotter) found() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// opened is the first line of a command that holds anything.
func (s *stream) opened() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSpace(s.first)
}
