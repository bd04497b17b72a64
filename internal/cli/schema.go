package cli

import (
	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/config"
)

func schemaCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of belay.yaml, for editors", Args: atMost(0),
		Long: `schema prints the JSON Schema of belay.yaml. Editors check and complete with it; belay check knows more.

Exit codes
  0 printed`,
		RunE: func(*cobra.Command, []string) error { return printSchema(s, config.Schema) },
	}
}

// printSchema prints what the package of the file makes.
func printSchema(s *session, schema func() ([]byte, error)) error {
	text, err := schema()
	if err != nil {
		return err
	}
	return s.say(string(text) + "\n")
}
