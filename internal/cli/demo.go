package cli

import "github.com/spf13/cobra"

func demoCommand(s *session) *cobra.Command {
	stay := false
	cmd := &cobra.Command{
		Use: "demo", Short: "Deliver an example for real, break it, watch it come back", Args: atMost(0),
		Long: `demo starts a server of its own on loopback, with its state in a temporary folder, and delivers three commits of an example
under steady traffic: a first one, a good one, and one that fails 30 % of its requests and is rolled back. It needs go and git.

Exit codes
  0 all went as it must · 1 something did not`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.commands.Demo == nil {
				return later("demo")
			}
			return s.commands.Demo(cmd.Context(), s.stdio.Out, stay)
		},
	}
	cmd.Flags().BoolVar(&stay, "stay", false, "leave everything running at the end, and print how to stop it")
	return cmd
}
