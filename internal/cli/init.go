package cli

import (
	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/scaffold"
)

func initCommand(s *session) *cobra.Command {
	var existing bool
	cmd := &cobra.Command{
		Use: "init", Short: "Write the first belay.yaml of this folder", Args: atMost(0),
		Long: `init reads the folder, says what it found, guessed and misses, and writes belay.yaml. It invents no test, no endpoint
and no secret. Where there is a belay.yaml already it changes nothing. At the root of a repository of several apps it names
them: each has a file in its own folder.

Exit codes
  0 written, or there and right, or several apps named · 2 the folder cannot be read, nothing was recognised, or the
  file there is wrong`,
		RunE: func(*cobra.Command, []string) error {
			if existing {
				return later("init --from-existing")
			}
			report, err := scaffold.Init(s.dir, scaffold.Options{App: s.app})
			if err != nil {
				return err
			}
			if s.json {
				return s.document(report)
			}
			return s.say(report.String())
		},
	}
	cmd.Flags().BoolVar(&existing, "from-existing", false, "read the deployment that is there (not in this version yet)")
	return cmd
}
