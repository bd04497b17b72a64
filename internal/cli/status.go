package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/domain"
)

func statusCommand(s *session) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say what runs where, since when, and how it compares with before", Args: atMost(0),
		Long: `status prints both environments of the app. Outside an app's folder it prints every app of the server.
What is not known is written as -, never as 0.

Exit codes
  0 printed · 2 no such app · 3 server not reached`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), s, all) },
	}
	cmd.Flags().BoolVar(&all, "all", false, "instances, routes and the way back too")
	return cmd
}

func runStatus(ctx context.Context, s *session, all bool) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	app, err := s.appName()
	var none *domain.Error
	apps := []string{app}
	if errors.As(err, &none) && s.app == "" {
		if p, _ := s.project(); p.dir != "" {
			return err // the file is there and wrong: not every app is meant
		}
		if apps, err = c.Apps(ctx); err == nil && len(apps) == 0 {
			s.note("no app has been shipped to this server yet")
		}
	}
	if err != nil {
		return err
	}
	v := s.view()
	v.all = all
	for i, app := range apps {
		status, err := c.Status(ctx, app)
		if err != nil {
			return err
		}
		if s.json {
			err = s.document(statusDocument(status))
		} else {
			if i > 0 {
				err = s.say("\n")
			}
			err = errors.Join(err, s.say(v.status(status)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
