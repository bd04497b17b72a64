// Package demo delivers the example shop for real, on loopback and with its state in a temporary folder: a first release,
// a good second one and a bad third one, under traffic that a process of its own sends and counts.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

const (
	productionHost = "shop.localhost"
	stagingHost    = "staging.shop.localhost"
	// requestsPerSecond is enough for the guard to see 30 % of errors within its 5 seconds, and little for any machine.
	requestsPerSecond = 100
	// wantedLeast and wantedMost bound the share of requests that the bad commit must fail for the demonstration to be what it says.
	wantedLeast, wantedMost = 0.15, 0.45
	shipLimit               = 6 * time.Minute
	settle                  = 2 * time.Second
)

// Options of the demo.
type Options struct {
	// Binary is belay itself; "" is the running program.
	Binary string
	// Load starts LoadMain; nil is Binary with the verb load.
	Load []string
	// Stay leaves everything running at the end and prints the addresses.
	Stay bool
	// Out gets the story and what the commands print. A terminal here gives the live view.
	Out io.Writer
}

// Run plays the demo. It returns an error of code Failed if anything was not as it must be: an exit code, a failed request
// during a good delivery, a rollback that did not come. Everything it started has ended when it returns, but with Stay.
func Run(ctx context.Context, o Options) (err error) {
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return err
		}
	}
	if o.Load == nil {
		o.Load = []string{o.Binary, "load"}
	}
	if _, err := exec.LookPath("go"); err != nil {
		return domain.Errorf(domain.Invalid, "the demo builds a Go program: %w", err).WithHint("install Go: https://go.dev/dl")
	}
	if err := adoptOrphans(); err != nil {
		return fmt.Errorf("descendants cannot be adopted: %w", err)
	}
	dir, err := os.MkdirTemp("", "belay-demo-")
	if err != nil {
		return err
	}
	d := &demo{Options: o, dir: dir, started: time.Now()}
	defer func() { err = d.end(ctx, err) }()
	// Builds and instances run as users of their own, who must be able to pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	return d.play(ctx)
}

// demo is one run.
type demo struct {
	Options
	dir     string
	started time.Time
	server  *server
	repo    repository
	traffic *traffic
}

// release is one of the three commits and how its delivery went.
type release struct {
	commit, subject string
	from, to        time.Time
	exit            int
}

func (r release) short() string { return domain.ShortCommit(r.commit) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

// play tells the story and judges it.
func (d *demo) play(ctx context.Context) error {
	var err error
	var first, good, bad release
	d.say("a tea shop, its git repository and a server with all its state in %s", d.dir)
	if d.repo, first.commit, err = newRepository(ctx, filepath.Join(d.dir, "shop")); err != nil {
		return err
	}
	first.subject = "Open the shop"
	if d.server, err = startServer(ctx, d.Binary, d.dir); err != nil {
		return err
	}
	d.say("%s  traffic http://%s  api http://%s", "belay serve --demo", d.server.traffic, d.server.api)

	d.say("\n1 of 3  the first delivery (the first build takes longest)")
	if err := d.ship(ctx, &first, 0); err != nil {
		return err
	}
	if d.traffic, err = startTraffic(d.Load, d.server.traffic, productionHost, d.dir); err != nil {
		return err
	}
	d.say("\n2 of 3  a good commit, under %d requests per second: %q", requestsPerSecond, goodChange.subject)
	if err := d.shipChange(ctx, &good, goodChange, 0); err != nil {
		return err
	}
	d.say("\n3 of 3  a bad commit whose tests are green: %q", badChange.subject)
	if err := d.shipChange(ctx, &bad, badChange, domain.RolledBack.Exit()); err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil { // what serves now must be seen to serve
		return err
	}
	if err := d.traffic.running(); err != nil {
		return err
	}
	end := time.Now()
	if err := d.traffic.stop(); err != nil {
		return err
	}
	d.say("")
	if _, err := d.belay(ctx, "status"); err != nil {
		return err
	}
	return d.conclude(judge(first, good, bad, d.traffic.tally.between(good.from, end)))
}

func (d *demo) conclude(s story) error {
	d.say("")
	for _, sentence := range s.sentences {
		d.say("%s", sentence)
	}
	if len(s.wrong) > 0 {
		for _, sentence := range s.wrong {
			d.say("not as it must be: %s", sentence)
		}
		return domain.Errorf(domain.Failed, "the demo did not show what it promises: %s", s.wrong[0])
	}
	d.say("all as it must be, in %s", time.Since(d.started).Round(time.Second))
	return nil
}

// shipChange commits a change and delivers it.
func (d *demo) shipChange(ctx context.Context, r *release, c change, want int) error {
	commit, err := d.repo.change(ctx, c)
	if err != nil {
		return err
	}
	r.commit, r.subject = commit, c.subject
	return d.ship(ctx, r, want)
}

// ship runs the real command in the shop's folder. Another exit code than the wanted one is an error.
func (d *demo) ship(ctx context.Context, r *release, want int) error {
	ctx, cancel := context.WithTimeout(ctx, shipLimit)
	defer cancel()
	d.say("$ belay ship")
	r.from = time.Now()
	code, err := d.belay(ctx, "ship")
	r.to, r.exit = time.Now(), code
	if err != nil {
		return err
	}
	if code != want {
		return domain.Errorf(domain.Failed, "belay ship of %s ended with exit code %d, %d is wanted", r.short(), code, want)
	}
	return nil
}

// belay runs a command of the client in the shop's folder and returns its exit code.
func (d *demo) belay(ctx context.Context, args ...string) (int, error) {
	command := exec.CommandContext(ctx, d.Binary, append([]string{"-C", d.repo.dir}, args...)...)
	command.Env = append(os.Environ(), "BELAY_SERVER="+d.server.address())
	command.Stdout, command.Stderr = d.Out, d.Out
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 5 * time.Second
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, domain.Errorf(domain.Failed, "belay %s did not end in time: %w", args[0], context.Cause(ctx))
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	default:
		return 0, err
	}
}

// end ends everything, or leaves it on purpose. After a failure it shows the ends of the logs.
func (d *demo) end(ctx context.Context, failure error) error {
	if failure != nil && ctx.Err() == nil {
		d.showLogs()
	}
	if d.Stay && failure == nil {
		failure = d.stay()
		if failure == nil {
			return nil
		}
	}
	if d.traffic != nil {
		failure = errors.Join(failure, d.traffic.stop())
	}
	if err := endAll(3*time.Second, 15*time.Second); err != nil {
		return errors.Join(failure, err)
	}
	if err := removeAll(d.dir); err != nil {
		return errors.Join(failure, err)
	}
	if ctx.Err() != nil {
		d.say("\nstopped: everything the demo started has ended")
	}
	return failure
}

// stay writes down how to end what goes on. The traffic has ended with the story.
func (d *demo) stay() error {
	script := filepath.Join(d.dir, "stop")
	if err := os.WriteFile(script, fmt.Appendf(nil, stopScript, d.dir), 0o755); err != nil {
		return err
	}
	d.say("\neverything stays as it is:")
	d.say("  the shop     curl -H 'Host: %s' http://%s/", productionHost, d.server.traffic)
	d.say("  in staging   curl -H 'Host: %s' http://%s/", stagingHost, d.server.traffic)
	d.say("  belay        export BELAY_SERVER=%s; cd %s; %s status", d.server.address(), d.repo.dir, d.Binary)
	d.say("  stop it      %s", script)
	return nil
}

func (d *demo) showLogs() {
	for _, name := range []string{"serve.log", "load.log"} {
		text, err := tail(filepath.Join(d.dir, name), 40)
		if err != nil || strings.TrimSpace(text) == "" {
			continue
		}
		d.say("\nthe end of %s:\n%s", name, text)
	}
}

// sleep waits, or returns early with the context's cause.
func sleep(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
