package cli

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

type logsOptions struct {
	id, stage, role, since string
	follow                 bool
}

func logsCommand(s *session) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use: "logs [ID]", Short: "Print what a delivery's stages or an app's instances logged", Args: atMost(1),
		Long: `logs prints the log of a delivery's stages; without ID of the newest. With --role it prints what the instances of a
role write. Lines go to stdout as they were written.

Exit codes
  0 printed · 2 no such delivery, stage or role · 3 server not reached · 130 left`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = argument(args)
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().StringVar(&o.stage, "stage", "", "only this `STAGE`: build, test, deploy-staging, …")
	cmd.Flags().StringVar(&o.role, "role", "", "instances of this `ROLE` instead of stages")
	cmd.Flags().BoolVar(&o.follow, "follow", false, "go on with new lines")
	cmd.Flags().StringVar(&o.since, "since", "", "from this `TIME`: 10m, 2h, or 2026-11-24T09:30:00Z")
	return cmd
}

func (o logsOptions) run(ctx context.Context, s *session) error {
	stage, err := stageNamed(o.stage)
	if err != nil {
		return err
	}
	if o.role != "" && (o.stage != "" || o.id != "") {
		return usage("--role prints instances, not a delivery's stages").WithHint("leave the ID and --stage out")
	}
	q := client.LogQuery{Stage: string(stage), Role: o.role, Follow: o.follow}
	if q.Since, err = past(o.since, s.now()); err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if o.role != "" {
		q.App, err = s.appName()
	} else {
		var d domain.Delivery
		d, err = s.delivery(ctx, c, o.id)
		q.App, q.Delivery = d.App, d.Number
	}
	if err != nil {
		return err
	}
	out := &counted{w: s.stdio.Out}
	err = c.Logs(ctx, q, out)
	if err == nil && out.n == 0 {
		s.note("nothing was logged")
	}
	if errors.Is(err, errInterrupted) {
		return exit(exitLeft)
	}
	return err
}

// counted counts what passes through it.
type counted struct {
	w io.Writer
	n int
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += n
	return n, err
}

// past reads a moment: how long ago, or when. "" is the zero time.
func past(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if at, ok := moment(text, now); ok {
		return at, nil
	}
	return time.Time{}, usage("--since %q: not a time", text).WithHint("10m, 2h, or 2026-11-24T09:30:00Z")
}

// moment reads a date with a time, in the local zone unless it names one, or a time of today.
func moment(text string, now time.Time) (time.Time, bool) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, true
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04"} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, true
		}
	}
	if at, err := time.ParseInLocation("15:04", text, now.Location()); err == nil {
		return time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, now.Location()), true
	}
	return time.Time{}, false
}
