package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/web"
)

// Test plays a run before a merge, as its scenario says.
func (f *fake) Test(ctx context.Context, r web.TestRequest, emit func(web.TestEvent)) error {
	bundle := r.Bundle
	if bundle == nil {
		bundle = strings.NewReader("")
	}
	commit, err := source.Accept(ctx, filepath.Join(f.dir, "repo.git"), bundle, r.Commit, source.DefaultLimits)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.said = append(f.said, fmt.Sprintf("test app=%s folder=%q level=%q all=%v bundle=%v", r.App, r.Folder, r.Level, r.All, r.Bundle != nil))
	scenario := f.scenario
	f.mu.Unlock()
	tell := func(e web.TestEvent) {
		e.At = begun
		emit(e)
	}
	if scenario == "held" {
		return domain.Errorf(domain.Conflict, "20 test runs wait already").WithHint("try again in some minutes")
	}
	tell(web.TestEvent{Type: "accepted", Commit: commit.SHA})
	tell(web.TestEvent{Type: "wait", Wait: &domain.Wait{Reason: "one build or test runs at a time on this machine: #7 of blog", Owner: "belay", Deadline: begun.Add(time.Hour)}})
	ended := begun.Add(2 * time.Second)
	build := domain.StageRecord{Name: domain.Build, State: domain.DoneState, Started: &begun, Ended: &ended, Summary: "sha256:8c1d…e07  lint 1 of 1", Notes: []string{"lint go vet ./...: clean, 1.2s"}}
	tell(web.TestEvent{Type: "stage", Stage: domain.Build, Row: &build})
	if scenario == "stuck" {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	tell(web.TestEvent{Type: "log", Stage: domain.Test, Text: "ok shop 0.1s\n\x1b[31mred\x1b[0m"})
	levels := []domain.LevelRecord{
		{Level: "unit", State: "done", Passed: 420, Counted: true, Cached: 408, CachedFrom: "#141", Took: 2},
		{Level: "integration", State: "done", Passed: 12, Counted: true, Cached: 12, CachedFrom: "#141"},
		{Level: "e2e", State: "done", Passed: 3, Counted: true, Took: 1},
	}
	for _, l := range levels {
		tell(web.TestEvent{Type: "level", Stage: domain.Test, Level: &l})
	}
	test := domain.StageRecord{Name: domain.Test, State: domain.DoneState, Started: &begun, Ended: &ended, Summary: "435 tests", Levels: levels}
	v := web.TestVerdict{ID: "tst_1", App: r.App, Commit: commit.SHA, Subject: commit.Subject, Folder: r.Folder, Only: r.Level, Green: true,
		Sentence: "green: 435 tests", Stages: []domain.StageRecord{build, test}, Loosened: []string{}, Took: 61}
	if scenario == "failed" {
		v.Green, v.Sentence, v.Hint = false, "red: test: unit: 2 tests failed", "what the tests said stands above"
		v.Failures = []web.TestFailure{
			{Level: "unit", Name: "shop.TestCart", Message: "index.html:1: empty cart", Output: "--- FAIL"},
			{Level: "unit", Name: "shop.TestLost", Message: "lost"},
		}
		for _, failure := range v.Failures {
			tell(web.TestEvent{Type: "failure", Stage: domain.Test, Failure: &failure})
		}
		v.Loosened = []string{"guard: error_rate 5 % to 9 %"}
	}
	tell(web.TestEvent{Type: "verdict", Verdict: &v})
	return nil
}

func TestPlaceOfAFailure(t *testing.T) {
	files := []string{"cart/cart_test.go", "order/cart_test.go", "order/order_test.go", "tests/test_cart.py", "src/app.test.js"}
	for _, c := range []struct {
		name, output, file string
		line               int
	}{
		{"example.com/shop/order.TestSum", "order_test.go:7: Sum(1, 2) = -1", "order/order_test.go", 7},
		{"example.com/shop/order.TestSum", "cart_test.go:9: no", "order/cart_test.go", 9},
		{"TestSum", "cart_test.go:9: no", "", 0}, // which of the two nobody knows
		{"test_total", "tests/test_cart.py:12: AssertionError", "tests/test_cart.py", 12},
		{"total", "at Object.<anonymous> (/data/work/shop/src/src/app.test.js:5:10)", "src/app.test.js", 5},
		{"total", "at /usr/lib/node/internal.js:5:10\n at src/app.test.js:6:1", "src/app.test.js", 6},
		{"total", "expected 3 at 10:30", "", 0},
	} {
		file, line := placeOf(web.TestFailure{Level: "unit", Name: c.name, Output: c.output}, files)
		if file != c.file || line != c.line {
			t.Errorf("%s %q: %s:%d, want %s:%d", c.name, c.output, file, line, c.file, c.line)
		}
	}
}
