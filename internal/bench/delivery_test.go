package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Belay's own time in a delivery whose commands do nothing and whose bakes are empty.
func BenchmarkDelivery(b *testing.B) {
	w := newWorld(b)
	p := w.newProject("bench", 2, "0s")
	var first time.Duration
	var total, inside times
	stages := map[domain.Stage]times{}
	for b.Loop() {
		for n := range *deliveries + 1 {
			p.commit()
			took, _ := p.belay(0, "ship")
			d := p.newest()
			if n == 0 {
				first = took
				continue // there is no stable release beside which it would run
			}
			total = append(total, took)
			inside = append(inside, d.Ended.Sub(d.Created))
			for _, s := range d.Stages {
				stages[s.Name] = append(stages[s.Name], s.Ended.Sub(*s.Started))
			}
		}
	}
	total.report(b, "ship-")
	figures.add("`belay ship` of commands that do nothing, without bakes", total.String(), "≤ 2 s")
	figures.add("the same, first delivery of an app", short(first), "")
	figures.add("the same, inside the server", inside.String(), "")
	var work times
	for i := range inside {
		sum := time.Duration(0)
		for _, s := range stages {
			sum += s[i]
		}
		work = append(work, sum)
	}
	figures.add("… of it the seven stages; the rest waits for the end of the proxy's second, to count the last requests", work.String(), "")
	for _, s := range []domain.Stage{
		domain.Build, domain.Test, domain.DeployStaging, domain.VerifyStaging, domain.DeployProduction, domain.VerifyProduction, domain.Monitor,
	} {
		figures.add(fmt.Sprintf("… of it %s", s), stages[s].String(), "")
	}
}
