package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/client"
)

type freezeOptions struct {
	reason, until string
}

func freezeCommand(s *session) *cobra.Command {
	var o freezeOptions
	cmd := &cobra.Command{
		Use: "freeze", Short: "Let nothing start Deploy production for a while", Args: atMost(0),
		Long: `freeze stops what would start Deploy production and every upward shift, on the whole server or with --app for one app.
Rollback stays possible.

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
	if err := c.Freeze(ctx, s.app, o.reason, until); err != nil {
		return err
	}
	if s.json {
		return s.document(map[string]any{"frozen": true, "app": s.app, "reason": o.reason, "until": until})
	}
	end := "until somebody thaws it"
	if until != nil {
		end = "until " + stamp(*until)
	}
	err = s.say(fmt.Sprintf("frozen%s %s: nothing starts Deploy production %s\n", s.frozenBy(ctx, c), end, s.reach()))
	s.note("no rollout gets more traffic · rollback stays possible · lift it: belay thaw --reason …%s", prefixed(" --app ", s.app))
	return err
}

// frozenBy names who froze, as the server knows the caller. Where no app tells it, nothing is said.
func (s *session) frozenBy(ctx context.Context, c *client.Client) string {
	app := s.app
	if app == "" {
		apps, err := c.Apps(ctx)
		if err != nil || len(apps) == 0 {
			return ""
		}
		app = apps[0]
	}
	status, err := c.Status(ctx, app)
	if err != nil || status.Freeze == nil {
		return ""
	}
	return prefixed(" by ", clean(status.Freeze.By))
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
		Long: `thaw lifts the freeze of the server, or with --app that of the app and its hold.

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
