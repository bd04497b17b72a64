package torture

import (
	"fmt"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Deliveries under mixed traffic, each of which stops the release before: nobody notices.
func TestCutoversFailNoRequest(t *testing.T) {
	w := newWorld(t, "1s", "")
	w.deliver("first", "", domain.DoneState)
	tr := w.startTraffic(rate)
	for n := range cutovers {
		began := time.Now()
		d := w.deliver(fmt.Sprintf("release-%d", n), "", domain.DoneState)
		t.Logf("delivery #%d took %s", d.Number, time.Since(began).Round(time.Millisecond))
		if d.Outcome.FailedBecause != 0 {
			t.Errorf("it says of itself: %s", d.Outcome.Sentence)
		}
	}
	noFailures(t, tr.stop(), cutovers*rate, nil)
	served := map[string]bool{}
	for _, r := range tr.sofar() {
		served[r.release] = true
	}
	if len(served) < cutovers+1 {
		t.Errorf("%d releases served, %d are wanted", len(served), cutovers+1)
	}
}
