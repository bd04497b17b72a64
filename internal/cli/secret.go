package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// maxSecret bounds a value in bytes.
const maxSecret = 32 << 10

type secretOptions struct {
	name           string
	env, file      string
	revoke, detach bool
}

func secretCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "secret", Short: "Set, rotate and look after the secrets of an app",
		Long: `secret works on Belay's own store, in which values are encrypted. A value is asked for at the prompt, or read from stdin or
--file; it is never an argument, and no command prints one. Values are set on the server itself, through its socket.

Exit codes
  0 done · 1 findings · 2 wrong usage · 3 server not reached · 12 no right`,
		Args: func(_ *cobra.Command, _ []string) error {
			return usage("secret: set NAME, rotate NAME, list, history NAME, or check").WithHint("belay secret --help")
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args has refused
	}
	cmd.AddCommand(secretSet(s), secretRotate(s), secretList(s, "list", false), secretHistory(s), secretList(s, "check", true))
	return cmd
}

// secretName takes one name, and refuses a value beside it without repeating it.
func secretName(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("secret %s: no name", cmd.Name()).WithHint("%s", cmd.UseLine())
	}
	if name, _, ok := strings.Cut(args[0], "="); ok || len(args) > 1 {
		return usage("nothing stored: a value is no argument: it is in the history of your shell now, and was in the list of processes").
			WithHint("delete it there and take another value: belay secret set %s asks for it", clean(name))
	}
	return nil
}

func secretSet(s *session) *cobra.Command {
	var o secretOptions
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Store a value; what runs goes on with the one that it has", Args: secretName,
		Long: `set stores the next version of NAME for one environment. The value comes from the prompt, or from stdin where that is no
terminal, or from --file; one line break at its end is not part of it. It reaches the app with the next delivery.
NAME is a variable; with --env build only build.run gets it (build.secrets). notify/CHANNEL is the address of a channel: of
the server, or with --app of one app.

Exit codes
  0 stored, or unchanged · 2 no name, no value · 3 server not reached: the line says whether it may have been stored
  12 no right: only on the server's socket`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return o.set(cmd.Context(), s)
		},
	}
	cmd.Flags().StringVar(&o.env, "env", "", "`ENV`: staging, production, or build")
	cmd.Flags().StringVar(&o.file, "file", "", "read the value from `FILE`; - is stdin")
	return cmd
}

func secretRotate(s *session) *cobra.Command {
	var o secretOptions
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Deliver the same artifact with a new value", Args: secretName,
		Long: `rotate stores a value as set does, and delivers the commit that is stable in ENV (production) again with it: the same
artifact, all seven stages. Where a newer value was set and does not run yet, that one is taken and nothing is asked for.
The version before stays as long as a release that one can go back to has it. With --revoke it is taken from every release
once the delivery is done, and wiped; a rollback to such a release then gets the new value, and says so.

Exit codes
  as belay ship: 0 done · 1 a stage is red · 2 wrong usage · 3 server not reached · 10 handed over with --detach
  11 rolled back: the version before goes on · 12 no right, or the value is in use already · 130 left`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return o.rotate(cmd.Context(), s)
		},
	}
	cmd.Flags().StringVar(&o.env, "env", string(domain.Production), "`ENV`: staging or production")
	cmd.Flags().StringVar(&o.file, "file", "", "read the value from `FILE`; - is stdin")
	cmd.Flags().BoolVar(&o.revoke, "revoke", false, "take the versions before from every release, and wipe them")
	cmd.Flags().BoolVar(&o.detach, "detach", false, "hand it over and leave")
	return cmd
}

func secretList(s *session, verb string, findingsOnly bool) *cobra.Command {
	short, long := "Show where each secret is set, since when, and what is wrong", "list shows the secrets of an app, never a value"
	if findingsOnly {
		short, long = "Say what is wrong with the secrets", "check prints the findings of list alone"
	}
	return &cobra.Command{
		Use: verb, Short: short, Args: atMost(0),
		Long: long + `: what the file of its last delivery names, and what the store holds. A finding is a secret
that is missing, the same in both environments, easy to guess, old, readable by others, or used by nothing.

Exit codes
  0 nothing is wrong · 1 findings · 2 no such app · 3 server not reached`,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.secrets(cmd.Context(), findingsOnly) },
	}
}

func secretHistory(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "history NAME", Short: "List the versions of a secret: who set it, when, and which release has it", Args: secretName,
		Long: `history lists every version that was set, never a value. A version is current; retiring while a release that one can go
back to has it; then retired, or revoked: its value is wiped.

Exit codes
  0 printed · 2 no such secret · 3 server not reached`,
		RunE: func(cmd *cobra.Command, args []string) error { return s.secretHistory(cmd.Context(), args[0]) },
	}
}

// place says which secret is meant. A channel is the server's unless an app is named.
func (o secretOptions) place(s *session) (domain.SecretPlace, error) {
	p := domain.SecretPlace{App: s.app, Environment: domain.Environment(o.env), Name: o.name}
	if _, channel := p.Channel(); !channel {
		var err error
		if p.App, err = s.appName(); err != nil {
			return p, err
		}
	}
	return p, p.Valid()
}

func (o secretOptions) set(ctx context.Context, s *session) error {
	p, err := o.place(s)
	if err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	secret, err := o.value(s, p)
	if err != nil {
		return err
	}
	set, err := c.SetSecret(ctx, secret)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(set)
	}
	err = s.say(clean(set.Sentence) + "\n")
	switch {
	case set.InUse > 0 && set.InUse != set.Version:
		s.note("hint: %s delivers the same artifact with v%d", p.RotateCommand(), set.Version)
	case set.InUse == 0 && p.Environment.Valid() && !set.Unchanged:
		s.note("hint: belay ship delivers it, once secrets.store names it")
	}
	return err
}

// value gets the value from where it is: a file, the prompt, or stdin.
func (o secretOptions) value(s *session, p domain.SecretPlace) (client.Secret, error) {
	secret := client.Secret{SecretPlace: p}
	var text []byte
	var err error
	in, isFile := s.stdio.In.(*os.File)
	switch {
	case o.file != "" && o.file != "-":
		secret.From = "file"
		text, err = readSecretFile(s, o.file)
	case o.file == "" && isFile && term.IsTerminal(int(in.Fd())):
		secret.From = "prompt"
		fmt.Fprint(s.stdio.Err, "value (not shown): ")
		text, err = term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(s.stdio.Err)
	case s.stdio.In == nil:
		err = usage("nothing stored: no value on stdin")
	default:
		secret.From = "stdin"
		text, err = io.ReadAll(io.LimitReader(s.stdio.In, maxSecret+3))
	}
	if err != nil {
		return secret, err
	}
	trimmed := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case trimmed == "":
		return secret, usage("nothing stored: the value is empty").WithHint("type it at the prompt, or give it on stdin or with --file")
	case len(trimmed) > maxSecret:
		return secret, usage("nothing stored: the value is longer than %d bytes", maxSecret)
	case strings.ContainsRune(trimmed, 0):
		return secret, usage("nothing stored: the value holds a NUL byte, which no variable can").WithHint("base64 makes text of a binary value")
	}
	value := domain.NewSecret(trimmed)
	secret.Value = &value
	return secret, nil
}

func readSecretFile(s *session, name string) ([]byte, error) {
	name = s.file(name)
	f, err := os.Open(name)
	if err != nil {
		return nil, usage("nothing stored: %w", err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		s.note("warning: %s is readable by others than you (mode %s): delete it when it is stored", s.shown(name), info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+3))
	if err != nil {
		return nil, usage("nothing stored: %w", err)
	}
	return text, nil
}

func (o secretOptions) rotate(ctx context.Context, s *session) error {
	p, err := o.place(s)
	if err != nil {
		return err
	}
	if !p.Environment.Valid() {
		return usage("not rotated: %s is in no release", p).WithHint("%s: the next build or message gets it", p.SetCommand())
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	secret := client.Secret{SecretPlace: p}
	waiting, err := o.waiting(ctx, c, p)
	if err != nil {
		return err
	}
	if !waiting || o.file != "" {
		if secret, err = o.value(s, p); err != nil {
			return err
		}
	}
	r, err := c.RotateSecret(ctx, secret, o.revoke)
	if err != nil {
		return err
	}
	if !s.json {
		if err := s.say(clean(r.Sentence) + "\n"); err != nil {
			return err
		}
	}
	if r.Delivery == nil {
		if s.json {
			return s.document(r)
		}
		s.note("nothing runs in %s: belay ship delivers it", p.Environment)
		return nil
	}
	if o.detach {
		return s.handedOver(*r.Delivery)
	}
	if err := s.follow(ctx, c, *r.Delivery, watching{}); err != nil {
		return err
	}
	return o.revoked(ctx, s, c, r.SecretVersion)
}

// waiting reports whether a newer version was set than the stable release has.
func (o secretOptions) waiting(ctx context.Context, c *client.Client, p domain.SecretPlace) (bool, error) {
	report, err := c.Secrets(ctx, p.App)
	switch {
	case err == nil:
	case domain.CodeOf(err) == domain.NotFound:
		return false, nil //nolint:nilerr // nothing was set yet
	default:
		return false, err
	}
	for _, one := range report.Secrets {
		if one.Name != p.Name || one.From != "store" {
			continue
		}
		if there, ok := one.In(p.Environment); ok {
			return there.Version > there.InUse && there.InUse > 0, nil
		}
	}
	return false, nil
}
