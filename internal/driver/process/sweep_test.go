package process_test

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// What nobody owns is stopped at the start and not adopted; what is owned goes on with the same process.
func TestSweep(t *testing.T) {
	b := newBench(t, nil)
	owned, orphan, test := b.instance("rel_1", 0, "good", 10*time.Second), b.instance("rel_2", 0, "good", 10*time.Second), b.instance("rel_test", 0, "good", 10*time.Second)
	test.Environment = "test"
	before := b.start(owned)
	b.start(orphan)
	b.start(test)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.open() // a new daemon
	swept, err := b.Sweep(t.Context(), map[string]bool{"rel_1": true})
	if err != nil || len(swept) != 2 || swept[0].Release != "rel_2" || swept[1].Release != "rel_test" {
		t.Fatalf("swept %v, %v", swept, err)
	}
	found, err := b.Adopt(t.Context())
	if err != nil || len(found) != 1 || found[0].PID != before.PID {
		t.Errorf("adopted %+v, %v", found, err)
	}
	if recorded, err := b.Recorded(); err != nil || len(recorded) != 1 || recorded[0].InstanceID != owned.InstanceID {
		t.Errorf("recorded %+v, %v", recorded, err)
	}
	if s := b.status(orphan.InstanceID); s.State != "" && s.State != domain.Stopped {
		t.Errorf("the orphan is %+v", s)
	}
	if again, err := b.Sweep(t.Context(), map[string]bool{"rel_1": true}); err != nil || len(again) != 0 {
		t.Errorf("swept again %v, %v", again, err)
	}
}
