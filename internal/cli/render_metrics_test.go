package cli

import (
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/domain"
)

func TestMetricsStandBesideEachOther(t *testing.T) {
	change := -0.51
	lines := view{width: 90}.metrics(&domain.Traffic{Metrics: []domain.Comparison{
		{Metric: "captured_per_minute", Per: "at equal traffic", Stable: 2570, Next: 1263, Change: &change, Blocks: 30, Warning: "captured_per_minute: 1,263 on next"},
		{Metric: "memory", Unit: "bytes", Stable: 21_000_000, Next: 22_000_000, Blocks: 3},
		{Metric: "raw", Note: "not compared: raw_total only grows"},
		{Metric: "later"},
	}})
	want := []string{
		"  captured_per_minute            2,570              1,263  −51 %  at equal traffic",
		"  memory                        20 MiB             21 MiB",
		"  warning: captured_per_minute: 1,263 on next",
		"  raw: not compared: raw_total only grows",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("it reads\n%s", got)
	}
}
