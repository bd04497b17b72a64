package build_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

// apart runs linters in another folder, as one that shows them the commit read-only does.
type apart struct{ dir string }

func (a apart) Run(ctx context.Context, c command.Cmd) error {
	c.Dir = a.dir
	return command.Local{}.Run(ctx, c)
}

func TestLintersOfTheirOwn(t *testing.T) {
	b := newBench(t)
	dir, asked := t.TempDir(), 0
	b.Linter = func(context.Context) (command.Runner, error) { asked++; return apart{dir}, nil }
	r := b.request()
	r.Run, r.Lint = "echo changed > page.html", []string{"test ! -e page.html", "touch here"}
	result := mustBuild(t, b, r) // what run changes is no linter's fault
	if asked != 1 || len(result.Commands) != 3 || !strings.HasPrefix(result.Commands[1].Note(), "lint test ! -e page.html: clean, ") {
		t.Errorf("asked %d times: %+v", asked, result.Commands)
	}
	if again := mustBuild(t, b, r); !again.Reused || asked != 1 {
		t.Errorf("asked %d times for an artifact that is there", asked)
	}
	r.Lint = []string{"echo page.html: first; echo 'open page.html: Read-only file sys'tem >&2; exit 7"}
	result, err := b.Build(t.Context(), r)
	if err == nil || !strings.Contains(domain.HintOf(err), "use the check form: gofmt -l, prettier --check") {
		t.Fatalf("%v %s", err, domain.HintOf(err))
	}
	lint := result.Commands[1]
	if lint.Exit != 7 || lint.First == "" || !strings.Contains(lint.Note(), ": exit 7, ") || !strings.Contains(lint.Note(), ", first: ") {
		t.Errorf("%+v: %s", lint, lint.Note())
	}
	b.Linter = func(context.Context) (command.Runner, error) { return nil, io.ErrUnexpectedEOF }
	if _, err := b.Build(t.Context(), r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}
