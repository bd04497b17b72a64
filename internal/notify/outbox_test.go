package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

func event(kind string, delivery int, sentence string) domain.Event {
	return domain.Event{Type: kind, Delivery: delivery, By: "ana", Data: map[string]any{"sentence": sentence}}
}

// everything is a channel that is told all.
var everything = []string{"started", "waiting", "held", "rolled_back", "failed", "done"}

// run lets a notifier work until the test ends or stop is called.
func run(t *testing.T, d *disk, w *world, b *inbox) (n *Notifier, stop func()) {
	t.Helper()
	n = New(Config{Store: d, Channels: w, Deliveries: w, Sender: b,
		Place: func(_, _ string, u domain.Secret) string { return u.Reveal() }})
	ctx, cancel := context.WithCancel(t.Context())
	d.mu.Lock()
	d.kill, d.dead, d.effects = cancel, false, 0
	d.mu.Unlock()
	over := make(chan struct{})
	go func() { defer close(over); n.Run(ctx) }()
	return n, func() { cancel(); <-over }
}

// settle lets everything happen that happens within a time.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEventsBecomeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, b := newDisk(), &inbox{}
		w := &world{listening: map[string][]string{"all": everything, "oncall": {"held"}, "team": {"done"}, "alarm": {"failed"}}}
		d.tell(event("delivery.done", 6, "done: before this server told anybody"))
		_, stop := run(t, d, w, b)
		settle(time.Second)
		deadline := time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC).Format(time.RFC3339Nano)
		d.tell(
			event("delivery.started", 7, ""),
			event("stage.done", 7, "nobody is told about this"),
			domain.Event{Type: "gate.waiting", Delivery: 7, Data: map[string]any{"owner": "belay", "reason": "#6 is in staging", "deadline": deadline}},
			domain.Event{Type: "gate.waiting", Delivery: 7, Data: map[string]any{"owner": "ben", "reason": "1 of 2 approvals", "deadline": deadline}},
			domain.Event{Type: "rollout.rehearsed", Delivery: 7, Environment: domain.Staging},
			event("rollout.held", 7, "stable fails too"),
			event("rollout.rolled_back", 7, "the delivery's own end follows"),
			event("rollout.page", 7, "the rollback failed: no room"),
			event("delivery.rolled_back", 7, "rolled back after 12s: errors 9 %"),
			event("delivery.expired", 8, "expired in test: nobody answered"),
			event("delivery.superseded", 9, "by #10"),
			domain.Event{Type: "rollout.rolled_back", By: "ben", Environment: domain.Staging, Data: map[string]any{"sentence": "back on 9be1f02"}},
			event("delivery.done", 10, "done: 4f2c81a serves production"),
		)
		settle(time.Second)
		stop()
		want := []string{
			`all: started: ana ships 4f2c81a "Sell tea"`,
			"all: waits: 1 of 2 approvals · ben · until 24 Nov 18:00 UTC",
			"all: held: stable fails too", "oncall: held: stable fails too",
			"all: a person is needed: the rollback failed: no room", "oncall: a person is needed: the rollback failed: no room",
			"alarm: a person is needed: the rollback failed: no room",
			"all: rolled back after 12s: errors 9 %",
			"all: expired in test: nobody answered", "alarm: expired in test: nobody answered",
			"all: (staging) rolled back by ben: back on 9be1f02",
			"all: done: 4f2c81a serves production", "team: done: 4f2c81a serves production",
		}
		got := b.told()
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// Whatever effect the process dies at, before it or after it: every message arrives, and at most the one in flight of
// each channel comes twice, under the same id.
func TestNothingIsLostByACrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		died := true
		for dieAt := 1; died; dieAt++ {
			synctest.Test(t, func(t *testing.T) { died = crash(t, dieAt, after) })
			if dieAt > 100 {
				t.Fatal("it never gets through")
			}
		}
	}
}

func crash(t *testing.T, dieAt int, after bool) (died bool) {
	d := newDisk()
	w, b := &world{listening: map[string][]string{"oncall": everything, "team": everything}}, &inbox{disk: d}
	_, stop := run(t, d, w, b)
	settle(time.Second)
	stop()
	d.dieAt, d.after = dieAt, after
	_, stop = run(t, d, w, b)
	d.tell(event("delivery.started", 7, ""), event("rollout.held", 7, "x"))
	settle(5 * time.Second)
	d.tell(event("delivery.failed", 7, "failed"))
	settle(5 * time.Minute)
	stop()
	died, d.dieAt = d.dead, 0
	_, stop = run(t, d, w, b)
	settle(time.Hour)
	stop()
	times := map[string]int{}
	for _, g := range b.list() {
		times[g]++
	}
	again := map[string]int{}
	for g, n := range times {
		channel, _, _ := cut(g)
		again[channel] += n - 1
	}
	if len(times) != 6 || again["oncall"] > 1 || again["team"] > 1 {
		t.Errorf("died at effect %d (after it: %v): %d messages, again: %v: %v", dieAt, after, len(times), again, times)
	}
	for _, n := range d.notices {
		if n.State != domain.NoticeSent {
			t.Errorf("died at effect %d: %s is %s", dieAt, n.Kind, n.State)
		}
	}
	return died
}

// A burst is one message a minute, and the last state wins.
func TestABurstIsGrouped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, b := newDisk(), &inbox{}
		_, stop := run(t, d, &world{listening: map[string][]string{"oncall": everything}}, b)
		settle(time.Second)
		for i := range 100 {
			kind := "rollout.held"
			if i%2 == 1 {
				kind = "rollout.resumed"
			}
			d.tell(event(kind, 7, fmt.Sprintf("flap %d", i)))
			settle(time.Second)
		}
		d.tell(event("rollout.held", 8, "another delivery"))
		settle(10 * time.Minute)
		stop()
		got := b.told()
		if len(got) != 4 || got[0] != "oncall: held: flap 0" || !slices.Contains(got, "oncall: held: another delivery") || got[len(got)-1] != "oncall: held: flap 99" {
			t.Errorf("%q", got)
		}
	})
}

// A dead channel and one that hangs delay no other.
func TestChannelsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		b := &inbox{
			refuse: func(n domain.Notice) error {
				if n.Channel == "dead" {
					return errors.New("not reached: connection refused")
				}
				return nil
			},
			hang: func(n domain.Notice) bool { return n.Channel == "slow" },
		}
		_, stop := run(t, d, &world{listening: map[string][]string{"dead": everything, "slow": everything, "team": everything}}, b)
		settle(time.Second)
		for i := range 20 {
			d.tell(event("delivery.done", i+1, "done"))
		}
		settle(100 * time.Millisecond)
		if got := len(b.list()); got != 20 {
			t.Errorf("%d of 20 messages after 100 ms", got)
		}
		stop()
	})
}

// A receiver that is away for hours gets what it missed, and is not asked too often; one that never comes back is given up
// after a day, which is told and seen.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var attempts atomic.Int64
		var away atomic.Bool
		away.Store(true)
		b := &inbox{refuse: func(n domain.Notice) error {
			if n.Channel == "oncall" && away.Load() {
				attempts.Add(1)
				return errors.New("it answered 500")
			}
			return nil
		}}
		w := &world{listening: map[string][]string{"oncall": everything}}
		n, stop := run(t, d, w, b)
		settle(time.Second)
		d.tell(event("delivery.failed", 1, "failed in build"))
		settle(10 * time.Minute)
		if n := attempts.Load(); n < 5 || n > 12 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		if ok, why, err := n.OnCall(t.Context(), "shop", true); ok || err != nil || why != "the last message to oncall failed: it answered 500" {
			t.Errorf("%v %q %v", ok, why, err)
		}
		away.Store(false)
		settle(time.Second) // nothing is due yet: a test brings it
		if r, err := n.Test(t.Context(), "shop", "oncall"); err != nil || !r.OK {
			t.Errorf("%+v, %v", r, err)
		}
		settle(time.Second)
		if got := b.told(); len(got) != 2 || got[1] != "oncall: failed in build" {
			t.Errorf("%q", got)
		}
		if ok, why, err := n.OnCall(t.Context(), "shop", true); !ok || err != nil || !strings.HasPrefix(why, "oncall (webhook), last reached ") {
			t.Errorf("%v %q %v", ok, why, err)
		}
		away.Store(true)
		attempts.Store(0)
		d.tell(event("delivery.failed", 2, "failed in test"))
		settle(26 * time.Hour)
		before := attempts.Load()
		settle(2 * time.Hour)
		if n := attempts.Load(); n != before || n < 90 || n > 150 {
			t.Errorf("%d attempts, %d after it was to be given up", n, n-before)
		}
		if last := d.events[len(d.events)-1]; last.Type != "notify.failed" || last.Delivery != 2 || last.Data["sentence"] != "channel oncall: it answered 500" {
			t.Errorf("%+v", last)
		}
		stop()
	})
}

func TestWhatIsMissingOnCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, b := newDisk(), &inbox{}
		w := &world{listening: map[string][]string{"oncall": everything}, unset: map[string]bool{"oncall": true}}
		n, stop := run(t, d, w, b)
		defer stop()
		settle(time.Second)
		ask := func(named bool, want string, fine bool) {
			t.Helper()
			if ok, why, err := n.OnCall(t.Context(), "shop", named); ok != fine || err != nil || !strings.Contains(why, want) {
				t.Errorf("%v %q %v, want %q", ok, why, err, want)
			}
		}
		ask(false, "names no channel oncall", false)
		ask(true, "has no URL: belay secret set notify/oncall", false)
		d.tell(event("delivery.failed", 1, "failed in build"))
		settle(time.Second)
		if last := d.events[len(d.events)-1]; last.Type != "notify.failed" || len(b.list()) != 0 {
			t.Errorf("without a URL: %+v, %v", last, b.list())
		}
		if _, err := n.Test(t.Context(), "shop", "oncall"); domain.CodeOf(err) != domain.NotFound || domain.HintOf(err) != "belay secret set notify/oncall" {
			t.Errorf("%v", err)
		}
		w.unset["oncall"] = false
		ask(true, "the last message to oncall failed: no URL is set", false)
		settle(time.Second)
		if r, err := n.Test(t.Context(), "shop", "oncall"); err != nil || !r.OK || r.Answer != "ok" || r.Kind != "webhook" {
			t.Errorf("%+v, %v", r, err)
		}
		ask(true, "oncall (webhook), last reached", true)
		n.Place = func(string, string, domain.Secret) string { return "another" }
		ask(true, "nothing was sent to this URL of oncall yet: belay notify test oncall --app shop", false)
		list, err := n.List(t.Context(), "shop")
		if err != nil || len(list) != 1 || !list[0].Set || !list[0].Changed || list[0].OK == nil || len(list[0].Events) != 6 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// A wait that is over when its receiver is back is not told any more.
func TestAnOldWaitIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var attempts atomic.Int64
		b := &inbox{refuse: func(n domain.Notice) error {
			if attempts.Add(1) <= 2 {
				return errors.New("it answered 500")
			}
			return nil
		}}
		_, stop := run(t, d, &world{listening: map[string][]string{"team": everything}}, b)
		settle(time.Second)
		d.tell(domain.Event{Type: "gate.waiting", Delivery: 7, Data: map[string]any{"owner": "ben", "reason": "1 of 2 approvals"}}, event("delivery.done", 7, "done"))
		settle(time.Hour)
		stop()
		if got := b.told(); len(got) != 1 || got[0] != "team: done" {
			t.Errorf("%q", got)
		}
		for _, n := range d.notices {
			if n.Kind == domain.NoticeWaiting && n.State != domain.NoticeReplaced {
				t.Errorf("%+v", n)
			}
		}
	})
}

// A receiver that says when to come back is left alone until then.
func TestABusyReceiverIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var attempts atomic.Int64
		b := &inbox{refuse: func(domain.Notice) error {
			if attempts.Add(1) == 1 {
				return &BusyError{Message: "it answered 429", After: 5 * time.Minute}
			}
			return nil
		}}
		_, stop := run(t, d, &world{listening: map[string][]string{"team": everything}}, b)
		settle(time.Second)
		d.tell(event("delivery.done", 1, "done"))
		settle(4 * time.Minute)
		if n := attempts.Load(); n != 1 {
			t.Errorf("%d attempts", n)
		}
		settle(2 * time.Minute)
		if n := attempts.Load(); n != 2 || len(b.list()) != 1 {
			t.Errorf("%d attempts, %v", n, b.list())
		}
		stop()
	})
}
