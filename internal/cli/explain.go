package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func explainCommand(s *session) *cobra.Command {
	var ticks bool
	cmd := &cobra.Command{
		Use: "explain [ID]", Short: "Say why a delivery ended as it did, from the stored measurements", Args: atMost(1),
		Long: `explain prints each decision of a delivery with the numbers it was made from, and makes it again from the stored
measurements. Without ID it explains the newest delivery.

Exit codes
  0 printed; where it was replayed, to the same verdict · 1 replayed to another verdict · 2 no such delivery
  3 server not reached`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if ticks {
				return later("explain --ticks")
			}
			return runExplain(cmd.Context(), s, argument(args))
		},
	}
	cmd.Flags().BoolVar(&ticks, "ticks", false, "each stored measurement too (not in this version yet)")
	return cmd
}

func runExplain(ctx context.Context, s *session, id string) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := s.delivery(ctx, c, id)
	if err != nil {
		return err
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
