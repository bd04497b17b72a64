package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/domain"
)

type freezeOptions struct {
	reason, until string
}

func freezeCommand(s *session) *cobra.Command {
	var o freezeOptions
	cmd := &cobra.Command{
		Use: "freeze", Short: "Let nothing start Deploy production for a while", Args: atMost(0),
		Long: `freeze stops what would start Deploy production and every upward shift, on the whole server or with --app for one app.
Rollback stays possible. A time without a zone is one of this terminal. A second freeze of the same reach replaces the first.

Exit codes
  0 set · 2 no reason · 3 server not reached: the line says whether the request may have been accepted
  12 not the owner or an operator`,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), s) },
	}
	cmd.Flags().StringVar(&o.reason, "reason", "", "`WHY`; needed")
	cmd.Flags().StringVar(&o.until, "until", "", "lift it by itself at this `TIME`: \"2026-11-24 18:00\", or 2h")
	return cmd
}

func (o freezeOptions) run(ctx context.Context, s *session) error {
	if o.reason == "" {
		return usage("nothing frozen: no reason").WithHint("--reason says why, to whoever meets the freeze")
	}
	until, err := future(o.until, s.now())
	if err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	set, err := c.Freeze(ctx, s.app, o.reason, until)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(map[string]any{"frozen": true, "app": s.app, "reason": o.reason, "until": until,
			"by": set.Freeze.By, "replaced": set.Replaced, "beside": set.Beside, "waits": set.Waits, "keeps": set.Keeps})
	}
	return s.say(s.frozenText(set))
}

// frozenText tells a freeze that was set, and what it met.
func (s *session) frozenText(set domain.Frozen) string {
	var b strings.Builder
	fmt.Fprintf(&b, "frozen by %s %s: nothing starts Deploy production %s\n", clean(set.Freeze.By), freezeEnd(set.Freeze), s.reach())
	if r := set.Replaced; r != nil {
		fmt.Fprintf(&b, "it replaces the freeze by %s %s: %s\n", clean(r.By), freezeEnd(*r), clean(r.Reason))
	}
	for _, f := range set.Beside {
		where := "the whole server"
		if f.App != "" {
			where = clean(f.App)
		}
		fmt.Fprintf(&b, "beside it %s is frozen by %s %s: %s\n", where, clean(f.By), freezeEnd(f), clean(f.Reason))
	}
	b.WriteString(waiters(set.Waits, "waits now", "wait now"))
	if len(set.Keeps) > 0 {
		b.WriteString(" · " + waiters(set.Keeps, "in production keeps its weight", "in production keep their weight"))
	}
	fmt.Fprintf(&b, " · rollback stays possible\nlift it: belay thaw --reason …%s\n", prefixed(" --app ", s.app))
	return b.String()
}

// freezeEnd says how long a freeze lasts.
func freezeEnd(f domain.Freeze) string {
	if f.Until == nil {
		return "until somebody thaws it"
	}
	return "until " + stamp(*f.Until)
}

// waiters counts deliveries and names them: 1 delivery waits now (payments #87).
func waiters(names []string, one, many string) string {
	verb := many
	if len(names) == 1 {
		verb = one
	}
	if len(names) == 0 {
		return "no delivery " + one
	}
	return fmt.Sprintf("%s %s (%s)", plural(int64(len(names)), "delivery", "deliveries"), verb, clean(strings.Join(names, ", ")))
}

// reach says what a freeze is about.
func (s *session) reach() string {
	if s.app != "" {
		return "of " + s.app
	}
	return "on this server"
}

func thawCommand(s *session) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "thaw", Short: "Lift a freeze; with --app also the hold after a rollback", Args: atMost(0),
		Long: `thaw lifts the freeze of the server, or with --app that of the app and its hold. A freeze is lifted by who set it, or by an
operator: whoever calls belay on the server itself, through its socket.

Exit codes
  0 lifted · 2 no reason · 3 server not reached: the line says whether the request may have been accepted
  12 not the owner or an operator`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runThaw(cmd.Context(), s, reason) },
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`; needed")
	return cmd
}

func runThaw(ctx context.Context, s *session, reason string) error {
	if reason == "" {
		return usage("nothing lifted: no reason").WithHint("--reason says why, for the record")
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Thaw(ctx, s.app, reason); err != nil {
		return err
	}
	if s.json {
		return s.document(map[string]any{"frozen": false, "app": s.app, "reason": reason})
	}
	return s.say(fmt.Sprintf("lifted: deliveries may start Deploy production %s\n", s.reach()))
}

// future reads a moment to come: when, or how long from now. "" is none.
func future(text string, now time.Time) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	at, ok := moment(text, now)
	if span, err := time.ParseDuration(text); err == nil {
		at, ok = now.Add(span), true
	}
	if !ok {
		return nil, usage("--until %q: not a time", text).WithHint(`"2026-11-24 18:00", 2026-11-24T18:00:00Z, or 2h`)
	}
	if !at.After(now) {
		return nil, usage("--until %q: it is over already", text)
	}
	return &at, nil
}
