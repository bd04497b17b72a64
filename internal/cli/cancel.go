package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/domain"
)

func cancelCommand(s *session) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "cancel [ID]", Short: "End a delivery: before production it is rejected, in a rollout it is rolled back", Args: atMost(1),
		Long: `cancel ends a delivery; without ID the newest. It never waits for the release that is leaving.

Exit codes
  0 recorded · 2 no such delivery · 3 server not reached: the line says whether the request may have been accepted
  12 it has ended already, or no right`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCancel(cmd.Context(), s, argument(args), reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	return cmd
}

func runCancel(ctx context.Context, s *session, id, reason string) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := s.delivery(ctx, c, id)
	if err != nil {
		return err
	}
	d, err = c.Cancel(ctx, d.App, d.Number, reason)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(d)
	}
	return s.say(ending(d))
}

// ending says what becomes of a delivery that a person ended.
func ending(d domain.Delivery) string {
	state := "is being ended"
	switch {
	case d.State == domain.RolledBackState:
		state = "is rolled back"
	case d.State.Final():
		state = "is " + words(d.State)
	}
	return fmt.Sprintf("%s #%d %s %s\n", d.App, d.Number, domain.ShortCommit(d.Commit), state)
}
