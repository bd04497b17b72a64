package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: atMost(0),
		Long: `version prints the version of this program.

Exit codes
  0 printed`,
		RunE: func(*cobra.Command, []string) error {
			if s.json {
				return s.document(map[string]string{"version": s.version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
			}
			return s.say(fmt.Sprintf("belay %s  %s %s/%s\n", s.version(), runtime.Version(), runtime.GOOS, runtime.GOARCH))
		},
	}
}

// version is what the program was told, else what its build knows.
func (s *session) version() string {
	if s.commands.Version != "" {
		return s.commands.Version
	}
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "0.1.0-dev"
}
