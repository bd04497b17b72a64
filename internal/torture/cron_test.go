package torture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// everySecond is a job that says in a volume, which outlives releases, which run of which commit it is. It takes as long as
// the mode of its commit says.
const everySecond = `roles:
  tick:
    run: echo "$BELAY_INSTANCE $BELAY_COMMIT" >> said/log; exec sleep $(sed -n "s/.*job=//p" mode)
    schedule: "* * * * * * UTC"
    overlap: queue
    timeout: 20s
    volumes: { said: said }
`

// said lists the commits that ran each tick in production, by the second.
func (w *world) said() map[int64][]string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.data, "volumes", appName, string(domain.Production), "said", "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	runs := map[int64][]string{}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		tick, err := strconv.ParseInt(strings.TrimPrefix(words[0], "tick-"), 10, 64)
		if err != nil || len(words) != 2 {
			w.t.Fatalf("a run said %q", line)
		}
		runs[tick] = append(runs[tick], words[1])
	}
	return runs
}

// told lists what the events say became of each tick in production, until that of until is told, or a later one.
func (w *world) told(until int64) map[int64][]string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	enough := errors.New("enough")
	told := map[int64][]string{}
	err := w.api1.Events(ctx, 0, client.EventFilter{App: appName}, func(e domain.Event) error {
		if e.Environment != domain.Production || !strings.HasPrefix(e.Type, "job.") || e.Type == "job.started" {
			return nil
		}
		at, err := time.Parse(time.RFC3339, fmt.Sprint(e.Data["tick"]))
		if err != nil {
			return err
		}
		told[at.Unix()] = append(told[at.Unix()], fmt.Sprint(e.Type, " ", e.Data["message"]))
		if at.Unix() >= until {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		w.t.Fatalf("the events end before %d: %v", until, err)
	}
	return told
}

// shipTicking ships a commit with the job of every second, which takes so long.
func (w *world) shipTicking(name, seconds string) int {
	w.t.Helper()
	file := fmt.Sprintf(belayFile, w.build, w.file, w.probes, w.monitor)
	w.write("belay.yaml", strings.Replace(file, "roles:\n", everySecond, 1), 0o644)
	w.write("mode", "name="+name+" job="+seconds+"\n", 0o644)
	w.git("add", "--all")
	w.git("commit", "--quiet", "--message", name)
	return w.ship()
}

// deliverTicking delivers a commit with the job of every second.
func (w *world) deliverTicking(name string) domain.Delivery {
	w.t.Helper()
	d := w.await(w.shipTicking(name, "0"), 90*time.Second)
	if d.State != domain.DoneState {
		w.t.Fatalf("%s\n%s", describe(d), w.tail("serve.log"))
	}
	return d
}

// A job that ticks every second, across cutovers and a killed daemon: each tick ran once, on a release that was there.
func TestEachTickOnceAcrossCutovers(t *testing.T) {
	w := newWorld(t, "1s", "")
	commits := []string{w.deliverTicking("first").Commit}
	eventually(t, 20*time.Second, "the job runs", func() error {
		if len(w.said()) == 0 {
			return errors.New("it said nothing")
		}
		return nil
	})
	releases := max(3, cutovers)
	for n := range releases {
		commits = append(commits, w.deliverTicking(fmt.Sprintf("release-%d", n)).Commit)
		if n%5 == 1 {
			w.killServe()
			time.Sleep(3 * time.Second) // ticks pass while nobody is there
			w.start(binaries.belay)
		}
	}
	last := time.Now().Unix()
	told, said := w.told(last+1), w.said()
	first := slices.Min(slices.Collect(maps.Keys(said)))
	skipped, served := 0, map[string]bool{}
	for tick := first; tick <= last; tick++ {
		switch {
		case len(said[tick]) == 1 && len(told[tick]) == 1 && strings.HasPrefix(told[tick][0], "job.done"):
			served[said[tick][0]] = true
		case len(said[tick]) == 0 && len(told[tick]) == 1 && strings.HasPrefix(told[tick][0], "job.skipped"):
			skipped++ // the machine was so busy that two runs stood in line already
			t.Logf("tick %d: %s", tick, told[tick][0])
		default:
			t.Errorf("tick %d ran %d times, and became %q", tick, len(said[tick]), told[tick])
		}
	}
	ticks := int(last - first + 1)
	t.Logf("%d ticks over %d releases, %d of them skipped", ticks, releases, skipped)
	if ticks < 5 || 10*skipped > ticks {
		t.Errorf("%d of %d ticks were skipped", skipped, ticks)
	}
	for commit := range served {
		if !slices.Contains(commits, commit) {
			t.Errorf("commit %s ran a tick, and was never delivered", commit)
		}
	}
	if len(served) < releases/2 {
		t.Errorf("only %d commits ran ticks", len(served))
	}
	code, out := w.belay("logs", "--role", "tick")
	if code != 0 {
		t.Errorf("belay logs ended with %d: %s", code, out)
	}
}

// A rollback ends the job that next has begun, and the ticks go on where the traffic is.
func TestRollbackEndsTheJobsOfNext(t *testing.T) {
	w := newWorld(t, "1s", "")
	first := w.deliverTicking("first")
	w.monitor = "60s"
	w.shipTicking("second", "600")
	next := w.git("rev-parse", "HEAD")
	var tick int64
	eventually(t, 60*time.Second, "the job runs on next", func() error {
		for at, commits := range w.said() {
			if commits[0] == next {
				tick = at
				return nil
			}
		}
		return errors.New("only on stable")
	})
	began := time.Now()
	if code, out := w.belay("rollback", "production", "--reason", "torture"); code != 0 {
		t.Fatalf("rollback ended with %d: %s", code, out)
	}
	eventually(t, 20*time.Second, "the ticks go on", func() error {
		for at, commits := range w.said() {
			if at > began.Unix() && commits[0] == first.Commit {
				return nil
			}
		}
		return errors.New("nothing runs on stable")
	})
	eventually(t, 30*time.Second, "the job of next is ended", func() error {
		// Ticks of after the rollback may be told of before the end of this one: all that was told until now is read.
		if got := w.told(time.Now().Unix() + 1)[tick]; len(got) != 1 || got[0] != "job.failed ended by the rollback" {
			return fmt.Errorf("it became %q", got)
		}
		return nil
	})
	for _, i := range instances(w.data) {
		if i.env == string(domain.Production) && i.name == fmt.Sprintf("tick-%d", tick) {
			t.Errorf("it still runs: %+v", i.state)
		}
	}
	for at, commits := range w.said() {
		if len(commits) != 1 {
			t.Errorf("tick %d ran %d times", at, len(commits))
		}
	}
}
