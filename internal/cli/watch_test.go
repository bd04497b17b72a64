package cli

import (
	"io"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// A deployment failed and the command line said success: its exit code came from what had been asked, not from what served.
func TestScar_flyctl_2651(t *testing.T) {
	for scenario, want := range map[string]int{"good": 0, "wrong-digest": 1, "unhealthy": 1, "newer": 0} {
		f := start(t, scenario)
		code := Main([]string{"--app", "shop-api", "show", "--follow"}, Stdio{Out: io.Discard, Err: io.Discard, Env: func(name string) string {
			return map[string]string{"BELAY_DATA": f.dir}[name]
		}}, Commands{})
		if code != want {
			t.Errorf("%s: exit code %d, want %d", scenario, code, want)
		}
	}
}

// A delivery that says done without a digest has proven nothing.
func TestDoneWithoutADigestIsNotSeen(t *testing.T) {
	f := start(t, "good")
	f.d.Digest = ""
	c, err := client.New(f.socket(), "")
	if err != nil {
		t.Fatal(err)
	}
	s := &session{stdio: Stdio{Out: io.Discard, Err: io.Discard, Env: func(string) string { return "" }}, now: time.Now, retry: time.Millisecond}
	if err := s.observed(t.Context(), c, f.d); domain.CodeOf(err) != domain.Failed || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestExitCodesOfEnds(t *testing.T) {
	for state, want := range map[domain.DeliveryState]int{
		domain.FailedState: 1, domain.RolledBackState: 11, domain.RejectedState: 12, domain.ExpiredState: 12, domain.SupersededState: 12,
	} {
		if got := exitOf(domain.Delivery{State: state}); got != want {
			t.Errorf("%s: %d, want %d", state, got, want)
		}
	}
}

func TestWaitsThatEndByThemselvesAreNoGates(t *testing.T) {
	d := waitingSample()
	if !atGate(d) {
		t.Error("an approval is a gate")
	}
	d.Wait.Owner = queueOwner
	if atGate(d) {
		t.Error("the queue of this machine is no gate")
	}
}

func TestMomentsAreRead(t *testing.T) {
	now := time.Date(2026, 11, 23, 14, 10, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2h": now.Add(2 * time.Hour), "2026-11-24 18:00": time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC),
		"18:00": time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC), "2026-11-24T18:00:00Z": time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC),
	} {
		if got, err := future(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"-1h", "0s", "tomorrow", "12:00", "2020-01-01 00:00"} {
		if got, err := future(text, now); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
	if got, err := past("10m", now); err != nil || !got.Equal(now.Add(-10*time.Minute)) {
		t.Errorf("%v %v", got, err)
	}
}
