package cli

import (
	"fmt"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// metrics draws the app's own metrics and what its processes use beside each other, and below them what is warned of.
func (v view) metrics(t *domain.Traffic) (lines []string) {
	var said []string
	for _, m := range t.Metrics {
		if m.Warning != "" {
			said = append(said, "warning: "+m.Warning)
		}
		if m.Blocks == 0 {
			if m.Note != "" {
				said = append(said, m.Metric+": "+m.Note)
			}
			continue
		}
		name, stable := clean(m.Metric), clean(domain.Quantity(m.Stable, m.Unit))
		line := "  " + name + right(stable, max(size(stable)+2, 36-size(name))) + right(clean(domain.Quantity(m.Next, m.Unit)), 19)
		if m.Change != nil {
			line += strings.ReplaceAll(fmt.Sprintf("  %+.0f %%", *m.Change*100), "-", "−")
		}
		if m.Per != "" && size(line)+2+size(m.Per) <= v.width {
			line += "  " + m.Per
		}
		if m.Warning != "" {
			line = v.paint.yellow(line)
		}
		lines = append(lines, line)
	}
	for _, s := range said {
		for _, l := range wrap(clean(s), v.width-2) {
			lines = append(lines, "  "+l)
		}
	}
	return lines
}
