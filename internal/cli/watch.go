package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// watching says how a delivery is followed.
type watching struct {
	all   bool
	until domain.Stage // stop when this stage is done, or at a gate; "" follows to the end
}

// over reports whether watching ends before the delivery does.
func (w watching) over(d domain.Delivery) bool {
	if w.until == "" {
		return false
	}
	return reached(d, w.until) || atGate(d)
}

// reached reports whether a stage is done.
func reached(d domain.Delivery, stage domain.Stage) bool {
	for _, s := range d.Stages {
		if s.Name == stage {
			return s.State == domain.DoneState
		}
	}
	return false
}

// queueOwner owns the waits that end by themselves: another delivery is being built, or is in the environment.
const queueOwner = "belay"

// atGate reports whether a delivery waits for something that only somebody else can bring.
func atGate(d domain.Delivery) bool {
	return d.State == domain.WaitingState && (d.Wait == nil || d.Wait.Owner != queueOwner)
}

// follow shows d until it ends, and turns its end into the exit code.
func (s *session) follow(ctx context.Context, c *client.Client, d domain.Delivery, w watching) error {
	end, err := s.watch(ctx, c, d, w)
	if errors.Is(err, errInterrupted) {
		fmt.Fprintf(s.stdio.Err, "left; #%d goes on: belay show %d --follow\n", d.Number, d.Number)
		return exit(exitLeft)
	}
	if err != nil {
		return err
	}
	if !end.State.Final() {
		return s.stopped(end, w)
	}
	return s.ended(ctx, c, end)
}

// watch draws the block on a terminal, writes one line per fact anywhere else, or events with --json.
func (s *session) watch(ctx context.Context, api deliveries, d domain.Delivery, w watching) (domain.Delivery, error) {
	if s.terminal(s.stdio.Out) && !s.json && !s.quiet {
		return s.watchLive(ctx, api, d, w)
	}
	f := follower{api: api, retry: s.retry, app: d.App, until: w.over}
	away := false
	return f.follow(ctx, d, func(seen sight) error {
		if seen.away != away {
			away = seen.away
			if away {
				s.note("%s server away, the delivery goes on", utc(s.now()))
			} else {
				s.note("%s server back", utc(s.now()))
			}
		}
		switch {
		case seen.event == nil:
			return nil
		case s.json:
			return s.document(seen.event)
		case s.quiet:
			return nil
		}
		return s.say(plain(*seen.event, seen.delivery))
	})
}

// stopped ends watching before the end of the delivery: its stage is done, or it waits at a gate.
func (s *session) stopped(d domain.Delivery, w watching) error {
	if reached(d, w.until) {
		s.note("%s is done; #%d goes on: belay show %d --follow", w.until, d.Number, d.Number)
		s.summarise(d, string(w.until)+" is done")
		return nil
	}
	reason := "a gate"
	if d.Wait != nil {
		reason = clean(d.Wait.Reason)
	}
	s.note("#%d waits: %s", d.Number, reason)
	s.summarise(d, "waits: "+reason)
	return exit(exitWaits)
}

// ended says how a delivery ended. Done counts only when its artifact is seen serving production.
func (s *session) ended(ctx context.Context, c *client.Client, d domain.Delivery) error {
	if !s.json && !s.terminal(s.stdio.Out) || s.quiet && !s.json {
		if err := s.say(plainEnd(d, s.now())); err != nil {
			return err
		}
	}
	s.summarise(d, sentence(d))
	if d.State == domain.DoneState || exitOf(d) == 0 {
		return s.observed(ctx, c, d)
	}
	if s.actions() {
		fmt.Fprintf(s.stdio.Err, "::error title=%s::%s\n", property(fmt.Sprintf("%s #%d", d.App, d.Number)), annotation(clean(sentence(d))))
	}
	if gateRefused(d) {
		if status, err := c.Status(ctx, d.App); err == nil && status.Hold != nil && (d.Outcome == nil || d.Outcome.Hint == "") {
			s.note("hint: %s", clean(status.Hold.WayOut))
		}
		return exit(domain.Refused.Exit())
	}
	if d.State == domain.RolledBackState {
		if status, err := c.Status(ctx, d.App); err == nil && status.Held {
			s.note("%s", ends(d.App+" is held: the next commit with another digest may pass", fmt.Sprintf("belay explain %d", d.Number), width-10))
		}
	}
	if d.State == domain.FailedState {
		s.note("more: %s", whereToLook(d))
	}
	return exit(exitOf(d))
}

// gateRefused reports whether a delivery ended because it was not let in, not because something of it failed.
func gateRefused(d domain.Delivery) bool {
	return d.State == domain.FailedState && slices.ContainsFunc(d.Gates, func(g domain.Gate) bool { return g.State == "refused" })
}

// whereToLook names the command that shows what a red stage left behind.
func whereToLook(d domain.Delivery) string {
	for _, st := range d.Stages {
		if st.State != domain.FailedState && st.State != domain.RolledBackState {
			continue
		}
		if st.Name == domain.Build || st.Name == domain.Test {
			return fmt.Sprintf("belay logs %d --stage %s", d.Number, strings.ReplaceAll(string(st.Name), " ", "-"))
		}
		break
	}
	return fmt.Sprintf("belay show %d --all; belay logs --role NAME prints what its instances wrote", d.Number)
}

// exitOf returns the exit code of a delivery that has ended otherwise than done. One that gave way in its Monitor is stable:
// what was asked for has happened.
func exitOf(d domain.Delivery) int {
	if n := len(d.Stages); d.State == domain.SupersededState && n > 0 && d.Stages[n-1].State == domain.DoneState {
		return 0
	}
	switch d.State {
	case domain.RolledBackState:
		return domain.RolledBack.Exit()
	case domain.RejectedState, domain.ExpiredState, domain.SupersededState:
		return domain.Refused.Exit()
	default:
		return exitFailed
	}
}

// observed returns nil only when production serves the delivery's artifact, or that of a later one that has come since.
func (s *session) observed(ctx context.Context, c *client.Client, d domain.Delivery) error {
	status, err := c.Status(ctx, d.App)
	for range 5 { // a server that restarts right after the end is no reason to doubt it
		if err == nil || domain.CodeOf(err) != domain.Unavailable {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(s.retry):
			status, err = c.Status(ctx, d.App)
		}
	}
	if err != nil {
		return domain.Errorf(domain.CodeOf(err), "#%d says done, but what serves production could not be seen: %w", d.Number, err).
			WithHint("belay status")
	}
	for _, e := range status.Environments {
		if e.Name != domain.Production || e.Release == nil {
			continue
		}
		switch {
		case e.Release.Digest == d.Digest && d.Digest != "" && e.Instances.Healthy > 0:
			return nil
		case e.Delivery > d.Number:
			s.note("since then #%d took over production", e.Delivery)
			return nil
		case e.Release.Digest == d.Digest && d.Digest != "":
			return domain.Errorf(domain.Failed, "#%d says done, but none of its instances in production is healthy", d.Number).WithHint("belay status --all")
		}
		return domain.Errorf(domain.Failed, "#%d says done, but production serves %s %s", d.Number, e.Release.Short(), shortDigest(e.Release.Digest)).
			WithHint("belay status; belay explain %d", d.Number)
	}
	return domain.Errorf(domain.Failed, "#%d says done, but nothing serves production", d.Number).WithHint("belay status")
}

// summarise appends the end to the page of a job in GitHub Actions. The page is a courtesy: that it cannot be written is
// said and changes no exit code.
func (s *session) summarise(d domain.Delivery, end string) {
	name := s.stdio.Env("GITHUB_STEP_SUMMARY")
	if !s.actions() || name == "" {
		return
	}
	page, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		v := view{now: s.now(), width: width}
		_, err = fmt.Fprintf(page, "### %s #%d: %s\n\n```text\n%s```\n", d.App, d.Number, clean(end), v.delivery(d))
		err = errors.Join(err, page.Close())
	}
	if err != nil {
		s.note("no step summary: %v", err)
	}
}
