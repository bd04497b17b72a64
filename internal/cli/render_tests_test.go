package cli

import (
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/belay-cd/belay/internal/domain"
)

// testedSample is a delivery of which the tests have all there is to say of them.
func testedSample() domain.Delivery {
	d := testingSample()
	stageDone(&d, 1, 41*time.Second, 132*time.Second, "1,914 tests, 353 cached · slowest shop.TestImport 9.1s")
	d.Stages[1].Levels = []domain.LevelRecord{
		{Level: "unit", State: "done", Counted: true, Passed: 353, Skipped: 2, Took: 0.4, Cached: 353, CachedFrom: "#141",
			Slow: []domain.SlowTest{{Name: "shop.TestRank", Took: 1.2, Usual: 1.2}}, Warnings: []string{"2 tests skipped"}},
		{Level: "integration", State: "done", Counted: true, Passed: 1561, Took: 104.2, Shards: []float64{101.9, 98.1, 104.1, 88}, Services: []string{"postgres 15.18", "redis 7.2"},
			Trend: "8 % slower than the last 10",
			Slow: []domain.SlowTest{{Name: "shop.TestImport", Took: 9.1, Usual: 6.5}, {Name: "shop.TestExport", Took: 3.2, Usual: 4}, {Name: "shop.TestNew", Took: 2.9},
				{Name: "shop.TestA", Took: 1.1, Usual: 1}, {Name: "shop.TestB", Took: 1}},
			Flaky: []string{"shop.TestSearch 2 of 20 runs", "shop.TestRank 1 of 20 runs"}, Warnings: []string{"12 tests fewer than in #141"}},
		{Level: "e2e", State: "none", Reason: "the API's own pipeline tests the contract"},
	}
	return d
}

func TestTestsAreDrawn(t *testing.T) {
	v := at(110 * time.Second)
	golden(t, "delivery_tested", v.delivery(testedSample()))
	v.all = true
	got := v.delivery(testedSample())
	golden(t, "delivery_tested_all", got)
	narrow(t, got)
	v.paint.on = true
	if coloured := v.delivery(testedSample()); ansi.Strip(coloured) != got {
		t.Errorf("with colours it says something else:\n%s", coloured)
	}
	red := testedSample()
	red.Stages[1].State = domain.FailedState
	red.Stages[1].Levels = []domain.LevelRecord{
		{Level: "unit", State: "failed", Counted: true, Passed: 351, Failed: 2, Took: 12.5, Shards: []float64{12.4, 11},
			Reason: "2 tests failed: shop.TestRank: rank_test.go:12: want 1, got 2; part 1 of 2: exit 1", Slowest: "shop.TestOld", SlowTook: 2},
		{Level: "integration", State: "pending", Reason: "an earlier level failed"},
		{Level: "e2e", State: "uncounted", Took: 3},
	}
	v.paint.on = false
	golden(t, "delivery_tested_red", v.delivery(red))
}

func TestAPlainLineNamesFlakyTests(t *testing.T) {
	got := plain(domain.Event{At: testedSample().Created, Type: "stage.done", Stage: domain.Test}, testedSample())
	golden(t, "plain_flaky", got)
}
