package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/store"
	"github.com/belay-cd/belay/internal/suite"
)

// testMemory keeps the runs of levels in the store, where no code of an app can write.
type testMemory struct{ store *store.Store }

// Green implements suite.Memory.
func (m testMemory) Green(ctx context.Context, app, level, inputs string) (*suite.Run, error) {
	info, err := m.store.UsableTestRun(ctx, app, level, inputs, time.Now())
	if err != nil || info == nil {
		return nil, err
	}
	var r suite.Run
	if err := json.Unmarshal(info, &r); err != nil {
		return nil, fmt.Errorf("read run of %s tests: %w", level, err)
	}
	return &r, nil
}

// Same implements suite.Memory.
func (m testMemory) Same(ctx context.Context, app, level, inputs string) ([]suite.Run, error) {
	if inputs == "" {
		return nil, nil
	}
	return m.runs(ctx, app, level, inputs, 0)
}

// Recent implements suite.Memory.
func (m testMemory) Recent(ctx context.Context, app, level string, limit int) ([]suite.Run, error) {
	return m.runs(ctx, app, level, "", limit)
}

func (m testMemory) runs(ctx context.Context, app, level, inputs string, limit int) ([]suite.Run, error) {
	list, err := m.store.TestRuns(ctx, app, level, inputs, limit)
	if err != nil {
		return nil, err
	}
	runs := make([]suite.Run, len(list))
	for i, info := range list {
		if err := json.Unmarshal(info, &runs[i]); err != nil {
			return nil, fmt.Errorf("read runs of %s tests: %w", level, err)
		}
	}
	return runs, nil
}

// Save implements suite.Memory.
func (m testMemory) Save(ctx context.Context, r suite.Run) error {
	info, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return m.store.SaveTestRun(ctx, store.TestRun{App: r.App, Level: r.Level, Inputs: r.Inputs, At: r.At, Info: info,
		Usable: r.Result.State == suite.Passed && r.Once == ""})
}
