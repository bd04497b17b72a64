package app

import (
	"context"
	"maps"
	"slices"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/suite"
)

// trusted is what a run may take from earlier ones. The result of a test before a merge counts for the files that it was of. A
// level with inputs of its own names only some of them, and the rest (a Makefile, a helper) was another branch's: such a result
// counts for the same commit alone, else whoever may write a branch could turn main green.
type trusted struct {
	suite.Memory
	commit   string
	narrowed map[string]bool // levels with inputs
}

func trust(m suite.Memory, j delivery.Job) trusted {
	t := trusted{Memory: m, commit: j.Delivery.Commit, narrowed: map[string]bool{}}
	for _, l := range j.File.Test.Level() {
		t.narrowed[l.Name] = len(l.Level.Inputs) > 0
	}
	return t
}

// Green returns the newest green run with these inputs, if it may be trusted.
func (t trusted) Green(ctx context.Context, app, level, inputs string) (*suite.Run, error) {
	run, err := t.Memory.Green(ctx, app, level, inputs)
	if run == nil || err != nil || run.Delivery > 0 || run.Commit == t.commit || !t.narrowed[level] {
		return run, err
	}
	return nil, nil
}

// toolchain are the versions of what build.run and the linters may start: another compiler makes another artifact.
func (b *builder) toolchain(ctx context.Context, j delivery.Job, p place) ([]string, error) {
	w := &suite.World{Runner: confined{box: b.runner.box, place: p}, Memo: &b.memo, Answers: &b.answers}
	parts, err := w.Parts(ctx, p.testEnv(j.Delivery), append(commandTexts(j.File.Build.Lint), j.File.Build.Run.Text))
	if err != nil {
		return nil, err
	}
	delete(parts, "machine") // the same programs make the same of the same files, whatever the host is called
	var list []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		list = append(list, name+" "+parts[name])
	}
	return list, nil
}
