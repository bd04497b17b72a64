package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/web"
)

func tokenCommand(s *session) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "token", Short: "Make, list and revoke tokens for the API over TCP",
		Long: `token works on the data folder of the server of this machine; a server that runs heeds each change at once.
A token acts with its name. It is shown once; only its hash is kept. Set BELAY_TOKEN to it where belay is called.

Exit codes
  0 done · 1 the folder cannot be written · 2 wrong usage, no such data folder or name · 12 NAME has a token`,
		Args: func(_ *cobra.Command, _ []string) error {
			return usage("token: create NAME, list, or revoke NAME").WithHint("belay token --help")
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args has refused
	}
	cmd.PersistentFlags().StringVar(&data, "data", "", "data `FOLDER` of the server; else BELAY_DATA, else where belay serve keeps it")
	with := func(f func(*web.Tokens, string) error) func(*cobra.Command, []string) error {
		return func(_ *cobra.Command, args []string) error {
			tokens, err := s.tokens(data)
			if err != nil {
				return err
			}
			return f(tokens, argument(args))
		}
	}
	cmd.AddCommand(
		&cobra.Command{Use: "create NAME", Short: "Make a token that acts as NAME, and print it once", Args: name, RunE: with(s.createToken)},
		&cobra.Command{Use: "list", Short: "List who has a token", Args: atMost(0), RunE: with(s.listTokens)},
		&cobra.Command{Use: "revoke NAME", Short: "Make the token of NAME worthless", Args: name, RunE: with(s.revokeToken)},
	)
	for _, c := range cmd.Commands() {
		c.Long = c.Short + ".\n\nExit codes\n  0 done · 1 the folder cannot be written · 2 wrong usage, no such data folder or name · 12 NAME has a token"
	}
	return cmd
}

// name takes exactly one argument.
func name(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("%s: no name", cmd.Name()).WithHint("%s", cmd.UseLine())
	}
	return atMost(1)(cmd, args)
}

// tokens opens the tokens of a data folder that a server has made.
func (s *session) tokens(data string) (*web.Tokens, error) {
	if data == "" {
		data = s.dataFolder()
	}
	keys := filepath.Join(data, "keys")
	switch _, err := os.Stat(keys); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usage("no server has run on %s", data).WithHint("--data or BELAY_DATA names its folder; belay serve makes it")
	case err != nil:
		return nil, usage("%w", err).WithHint("only the user that the server runs as may read its keys")
	}
	return web.NewTokens(filepath.Join(keys, "tokens")), nil
}

func (s *session) createToken(tokens *web.Tokens, name string) error {
	token, err := tokens.Create(name)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(map[string]string{"name": name, "token": token})
	}
	s.note("a token for %s, shown only now: export BELAY_TOKEN=…", clean(name))
	return s.say(token + "\n")
}

func (s *session) listTokens(tokens *web.Tokens, _ string) error {
	list, err := tokens.List()
	if err != nil {
		return err
	}
	if s.json {
		names := make([]map[string]any, len(list))
		for i, t := range list {
			names[i] = map[string]any{"name": t.Name, "created": t.Created}
		}
		return s.document(names)
	}
	var b strings.Builder
	for _, t := range list {
		fmt.Fprintf(&b, "%s  %s\n", pad(clean(t.Name), 24), age(s.now().Sub(t.Created)))
	}
	if len(list) == 0 {
		s.note("nobody has a token: belay token create NAME")
	}
	return s.say(b.String())
}

func (s *session) revokeToken(tokens *web.Tokens, name string) error {
	if err := tokens.Revoke(name); err != nil {
		return err
	}
	if s.json {
		return s.document(map[string]string{"revoked": name})
	}
	return s.say("revoked: the token of " + clean(name) + " opens nothing any more\n")
}
