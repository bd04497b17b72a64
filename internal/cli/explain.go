package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

func explainCommand(s *session) *cobra.Command {
	var ticks bool
	cmd := &cobra.Command{
		Use: "explain [ID]", Short: "Say why a delivery ended as it did, from the stored measurements", Args: atMost(1),
		Long: `explain prints each decision of a delivery with the numbers it was made from, and makes it again from the stored
measurements. Without ID it explains the newest delivery.
With --ticks it prints each stored second of its rollout, with the evidence after it; with --json too, a line of JSON for
each, which belay simulate FILE judges again under other settings.

Exit codes
  0 printed; where it was replayed, to the same verdict · 1 replayed to another verdict
  2 no such delivery, or no measurements of it · 3 server not reached`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExplain(cmd.Context(), s, argument(args), ticks)
		},
	}
	cmd.Flags().BoolVar(&ticks, "ticks", false, "each stored second and the evidence after it, instead of the decisions")
	return cmd
}

func runExplain(ctx context.Context, s *session, id string, ticks bool) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := s.delivery(ctx, c, id)
	if err != nil {
		return err
	}
	if ticks {
		return s.ticks(ctx, c, d)
	}
	e, err := c.Explain(ctx, d.App, d.Number)
	if err != nil {
		return err
	}
	if s.json {
		err = s.document(e)
	} else {
		err = s.say(s.view().explanation(e))
	}
	if err == nil && e.Replayed && !e.Same {
		err = exit(exitFailed)
	}
	return err
}

// ticks prints the stored seconds of a delivery's rollout as they come: they may be hours.
func (s *session) ticks(ctx context.Context, c *client.Client, d domain.Delivery) error {
	return c.Ticks(ctx, d.App, d.Number, func(lines io.Reader) error {
		if s.json {
			_, err := io.Copy(s.stdio.Out, lines)
			return err
		}
		v, first := s.view(), true
		return readTicks(ctx, c.Address(), lines, func(t web.Replayed) error {
			if first {
				first = false
				if err := s.say(v.tickHead(d, t)); err != nil {
					return err
				}
			}
			return s.say(v.tick(t))
		})
	})
}
