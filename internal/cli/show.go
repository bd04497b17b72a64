package cli

import (
	"context"

	"github.com/spf13/cobra"
)

type showOptions struct {
	id            string
	follow, all   bool
	evidence, key string
}

func showCommand(s *session) *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use: "show [ID]", Short: "Show a delivery, or follow it to its end", Args: atMost(1),
		Long: `show prints one delivery: 142, shop-api/142 or dly_…; without ID the newest.
With --follow it stays until the end and over restarts of the server. ctrl-c leaves; the delivery goes on.
With --evidence it verifies here what the server signed about each stage, with the public key of --key; with --json it
prints the evidence itself, which --evidence=FILE verifies without any server.

Exit codes
  0 printed; with --follow: done, and its artifact was seen serving; with --evidence: nothing is forged, altered or red
  2 no such delivery · 3 server not reached
  with --evidence also: 1 an envelope does not verify, or a stage that should be signed is not
  with --follow also: 1 failed · 11 rolled back · 12 rejected, expired or superseded · 130 left`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = argument(args)
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().BoolVar(&o.follow, "follow", false, "stay until it ends")
	cmd.Flags().BoolVar(&o.all, "all", false, "every step, check, gate and note")
	cmd.Flags().StringVar(&o.evidence, "evidence", "", "verify what was signed of each stage; a `FILE` of --evidence --json needs no server")
	cmd.Flags().Lookup("evidence").NoOptDefVal = askServer
	cmd.Flags().StringVar(&o.key, "key", "", "`FILE` with the server's public key; else the one that comes with the evidence")
	cmd.MarkFlagsMutuallyExclusive("follow", "evidence")
	return cmd
}

func (o showOptions) run(ctx context.Context, s *session) error {
	if o.evidence != "" {
		return o.verify(ctx, s)
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := s.delivery(ctx, c, o.id)
	if err != nil {
		return err
	}
	if o.follow {
		return s.follow(ctx, c, d, watching{all: o.all})
	}
	if s.json {
		return s.document(d)
	}
	v := s.view()
	v.all = o.all
	return s.say(v.delivery(d))
}
