package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/domain"
)

type rollbackOptions struct {
	env        domain.Environment
	to, reason string
}

func rollbackCommand(s *session) *cobra.Command {
	var o rollbackOptions
	cmd := &cobra.Command{
		Use: "rollback [ENV]", Short: "Go back to the release before, at once", Args: atMost(1),
		Long: `rollback moves the traffic of ENV (production) back and then says what it saw. It asks nothing: the command is the
confirmation. A freeze or a closed window does not stop it.

Exit codes
  0 back · 1 it could not go back: somebody is paged · 2 no such release · 3 server not reached: the line says whether
  the request may have been accepted · 12 there is nothing to go back to, or the schema does not allow it`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.env = domain.Production
			if len(args) > 0 {
				o.env = domain.Environment(args[0])
			}
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().StringVar(&o.to, "to", "", "this `RELEASE` or commit instead of the one before")
	cmd.Flags().StringVar(&o.reason, "reason", "", "`WHY`, for the record")
	return cmd
}

func (o rollbackOptions) run(ctx context.Context, s *session) error {
	if err := validEnvironment(o.env); err != nil {
		return err
	}
	app, c, err := s.connectApp()
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.Rollback(ctx, app, o.env, o.to, o.reason)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(r)
	}
	return s.say(s.view().rollback(r))
}

func validEnvironment(env domain.Environment) error {
	if env.Valid() {
		return nil
	}
	return usage("unknown environment %q: there are two, staging and production", env)
}
