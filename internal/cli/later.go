package cli

import (
	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/domain"
)

// later is the answer of what this version does not do yet.
func later(what string) *domain.Error {
	return usage("%s: not in this version yet", what)
}

// laterCommands answer verbs that people know from the documentation and this version does not have. They are hidden from
// the list of commands, and take any arguments so that the answer is always the same.
func laterCommands() []*cobra.Command {
	var commands []*cobra.Command
	for _, name := range []string{
		"install", "remove", "backup", "restore", "audit", "migrate",
	} {
		commands = append(commands, &cobra.Command{
			Use: name, Hidden: true, DisableFlagParsing: true, Short: "Not in this version yet",
			RunE: func(*cobra.Command, []string) error { return later(name) },
		})
	}
	return commands
}
