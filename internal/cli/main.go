// Package cli is the command line: one file per verb, each a struct of options and a run. Data goes to stdout, everything
// else to stderr; words carry what colours repeat.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/domain"
)

// Stdio is what the command line reads from and writes to.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	// Env looks a variable up; nil asks the process.
	Env func(name string) string
}

// Commands are the parts of the program that the command line starts and does not know.
type Commands struct {
	// Version of the program; "" reads it from the build.
	Version string
	// Serve runs the server until ctx ends.
	Serve func(ctx context.Context, o ServeOptions) error
	// Demo delivers the example application for real; stay leaves it running.
	Demo func(ctx context.Context, out io.Writer, stay bool) error
	// Internal are the verbs by which the program runs itself: proxy, shim, sandbox, static. Each is called with the
	// arguments behind its name, before anything else is set up, and returns the exit code.
	Internal map[string]func(args []string) int
}

// Exit codes that no domain code has.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitWaits  = 10
	exitLeft   = 130
)

// exit ends the program with a code after everything has been said.
type exit int

func (exit) Error() string { return "" }

// errInterrupted is the cause of a context that ctrl-c ended.
var errInterrupted = errors.New("interrupted")

// Main runs one command line, without the program's name, and returns its exit code.
func Main(args []string, stdio Stdio, commands Commands) int {
	if len(args) > 0 {
		if run, ok := commands.Internal[args[0]]; ok {
			return run(args[1:])
		}
	}
	if stdio.Env == nil {
		stdio.Env = os.Getenv
	}
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		select {
		case <-signals:
			stop(errInterrupted)
			signal.Stop(signals) // a second one ends the program at once
		case <-ctx.Done():
		}
	}()
	s := &session{stdio: stdio, commands: commands, now: time.Now, retry: time.Second}
	root := rootCommand(s)
	root.SetArgs(args)
	root.SetIn(stdio.In)
	root.SetOut(stdio.Out)
	root.SetErr(stdio.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	return s.fail(err)
}

const rootLong = `belay takes one commit of an application through seven stages to production without downtime, watches it
there, and takes it back by itself when it hurts users.

Exit codes
  0 done · 1 failed · 2 wrong usage or configuration · 3 server not reached · 10 waiting · 11 rolled back
  12 refused by policy · 130 left by ctrl-c; a delivery goes on without its watcher`

func rootCommand(s *session) *cobra.Command {
	root := &cobra.Command{
		Use: "belay", Short: "Delivers commits to production, and takes them back when they hurt users", Long: rootLong,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return s.begin() },
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&s.dir, "directory", "C", ".", "run as if started in `DIR`")
	flags.StringVar(&s.app, "app", "", "`NAME` of the app; else the one of belay.yaml, looked for upward")
	flags.StringVar(&s.server, "server", "", "`ADDRESS` of the server; else BELAY_SERVER, else the socket of this machine")
	flags.BoolVar(&s.json, "json", false, "print JSON: one document, or one line per event with --follow")
	flags.BoolVarP(&s.quiet, "quiet", "q", false, "print only how it ended, and errors")
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(
		&cobra.Group{ID: "app", Title: "Your app"},
		&cobra.Group{ID: "delivery", Title: "Deliveries"},
		&cobra.Group{ID: "server", Title: "The server"},
	)
	grouped := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	grouped("app", initCommand(s), checkCommand(s), planCommand(s), simulateCommand(s), testCommand(s), schemaCommand(s), secretCommand(s))
	grouped("delivery", shipCommand(s), statusCommand(s), showCommand(s), logsCommand(s), explainCommand(s),
		approveCommand(s), rejectCommand(s), cancelCommand(s), rollbackCommand(s), freezeCommand(s), thawCommand(s), execCommand(s))
	grouped("server", serveCommand(s), tokenCommand(s), notifyCommand(s), demoCommand(s), versionCommand(s))
	root.AddCommand(laterCommands()...)
	return root
}

// usage is an error of code Invalid about how a command was called.
func usage(format string, args ...any) *domain.Error {
	return domain.Errorf(domain.Invalid, format, args...)
}

// atMost takes up to n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usage("%s: %q is one argument too many", cmd.Name(), args[n]).WithHint("%s", cmd.UseLine())
		}
		return nil
	}
}
