package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

func execCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "exec ENV -- COMMAND [ARG…]", Short: "Run a one-off command in the stable release",
		Long: `exec runs COMMAND in the stable release of ENV, with its variables and secrets, beside its instances. Stdin, stdout and
stderr are the command's.

Exit codes
  the command's own · 2 wrong usage, or no release there · 3 server not reached · 12 no right · 130 left`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
				return usage("exec: an environment, -- and a command are needed").WithHint("belay exec production -- bin/console")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExec(cmd.Context(), s, domain.Environment(args[0]), args[1:])
		},
	}
}

func runExec(ctx context.Context, s *session, env domain.Environment, argv []string) error {
	if err := validEnvironment(env); err != nil {
		return err
	}
	app, c, err := s.connectApp()
	if err != nil {
		return err
	}
	defer c.Close()
	code, err := c.Exec(ctx, app, env, argv, client.Streams{In: s.stdio.In, Out: s.stdio.Out, Err: s.stdio.Err})
	switch {
	case errors.Is(err, errInterrupted):
		return exit(exitLeft)
	case err != nil:
		return err
	case code != 0:
		return exit(code)
	}
	return nil
}
