package suite_test

import (
	"testing"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/suite"
)

func TestReasonHoldsTheLastLine(t *testing.T) {
	s := suite.Suite{Runner: command.Local{}}
	p, err := s.Run(t.Context(), suite.Request{Dir: t.TempDir(), Env: environment(), Levels: []suite.Level{
		{Name: "unit", Run: "echo begin; printf 'one is not two\n\n' >&2; exit 3"},
	}}, nil)
	if err != nil || p.Levels[0].Reason != "exit 3: one is not two" {
		t.Errorf("%+v, %v", p.Levels, err)
	}
}
