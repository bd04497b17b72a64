package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/source"
)

type shipOptions struct {
	ref    string
	detach bool
	until  string
	from   string
	urgent string
	// hurried says that --urgent was given.
	hurried bool
	// tests says that nothing is delivered: the commit is tested before its merge.
	tests bool
}

// stages in their order, as --until takes them.
var stages = []domain.Stage{
	domain.Build, domain.Test, domain.DeployStaging, domain.VerifyStaging, domain.DeployProduction, domain.VerifyProduction, domain.Monitor,
}

func shipCommand(s *session) *cobra.Command {
	var o shipOptions
	cmd := &cobra.Command{
		Use: "ship [REF]", Short: "Deliver a commit through all seven stages", Args: atMost(1),
		Long: `ship hands the commit REF (HEAD) to the server and shows its way to production. A tree with changes that no commit
holds is refused. All seven stages run, for everybody; ctrl-c leaves, the delivery goes on.
Where no belay.yaml stands in the folder or above it, each app below is delivered whose inputs changed since its newest
delivery.
In CI use --until verify-production: the hour of Monitor then costs no runner.
--urgent is for a fix that cannot wait: it goes before other deliveries, holds at least 2 minutes, and a rollout that runs
is rolled back once the fix is healthy. No stage is left out.

Exit codes
  0 done, and its artifact was seen serving production; or the stage of --until is done
  1 a stage is red · 2 wrong file, dirty tree, unknown ref · 3 server not reached: the line says whether the request
  may have been accepted · 10 handed over with --detach, or waiting at a gate with --until · 11 rolled back
  12 held, frozen, no right, or an artifact known as bad · 130 left`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ref, o.hurried = argument(args), cmd.Flags().Changed("urgent")
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().BoolVar(&o.detach, "detach", false, "hand it over and leave")
	cmd.Flags().StringVar(&o.until, "until", "", "leave when this `STAGE` is done: build, test, deploy-staging, …, or at a gate")
	cmd.Flags().StringVar(&o.from, "from", "", "take over the app that runs at `URL` as stable, without a gap; an app's first delivery only")
	cmd.Flags().StringVar(&o.urgent, "urgent", "", "`REASON` to go before all others: the same seven stages, shorter holds, recorded")
	return cmd
}

func (o shipOptions) run(ctx context.Context, s *session) error {
	if err := o.valid(); err != nil {
		return err
	}
	until, err := stageNamed(o.until)
	if err != nil {
		return err
	}
	list, err := o.several(ctx, s)
	if err != nil {
		return err
	}
	if len(list) > 0 && o.from != "" {
		return usage("nothing shipped: --from is about one app, and there are %d below this folder", len(list)).WithHint("belay -C %s ship --from %s", list[0].sub.Folder, o.from)
	}
	if len(list) > 0 {
		return o.shipSeveral(ctx, s, list, until)
	}
	sub, dir, err := o.prepare(ctx, s)
	if err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := s.handOver(ctx, c, sub, dir)
	if err != nil {
		return err
	}
	if !o.detach {
		return s.follow(ctx, c, d, watching{until: until})
	}
	return s.handedOver(d)
}

// valid checks the flags that the server would refuse only after the commit was sent.
func (o shipOptions) valid() error {
	if o.hurried && strings.TrimSpace(o.urgent) == "" {
		return usage("nothing shipped: --urgent needs a reason").WithHint(`--urgent "payments fail since 14:02"`)
	}
	if o.from == "" {
		return nil
	}
	u, err := url.Parse(o.from)
	if err != nil || u.Scheme != "http" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return usage("nothing shipped: --from %s: not the address of a running app", o.from).WithHint("--from http://127.0.0.1:3000")
	}
	return nil
}

// handedOver ends ship with --detach.
func (s *session) handedOver(d domain.Delivery) error {
	var err error
	if s.json {
		err = s.document(d)
	} else {
		err = s.say(fmt.Sprintf("%s #%d %s handed over%s\n", d.App, d.Number, domain.ShortCommit(d.Commit), prefixed(": ", clean(d.URL))))
		s.note("follow it: belay show %d --follow", d.Number)
	}
	if err != nil {
		return err
	}
	return exit(exitWaits)
}

// stageNamed reads the name of a stage, with - or a space in it.
func stageNamed(name string) (domain.Stage, error) {
	stage := domain.Stage(strings.ReplaceAll(name, "-", " "))
	if name == "" || slices.Contains(stages, stage) {
		return stage, nil
	}
	names := make([]string, len(stages))
	for i, st := range stages {
		names[i] = strings.ReplaceAll(string(st), " ", "-")
	}
	return "", usage("%q is no stage", name).WithHint("%s", strings.Join(names, ", "))
}

// serverBounds leaves the bounds of times to the server: one that runs with --demo takes shorter ones.
var serverBounds = config.Options{Demo: true}

// prepare proves the commit and the file as far as this machine can.
func (o shipOptions) prepare(ctx context.Context, s *session) (client.Submission, string, error) {
	none := client.Submission{}
	p, err := s.project()
	if err != nil {
		return none, "", err
	}
	_, folder, err := place(ctx, p.dir)
	if err != nil {
		return none, "", o.nothing(err)
	}
	commit, err := source.Ref(ctx, p.dir, o.ref)
	if err != nil {
		return none, "", o.nothing(err)
	}
	head, err := source.Resolve(ctx, p.dir, "HEAD")
	if err != nil {
		return none, "", o.nothing(err)
	}
	if head.SHA == commit.SHA { // the folder is the commit; of any other the server reads the file
		_, findings, err := config.Load(p.dir, serverBounds)
		if err != nil {
			return none, "", err
		}
		if config.Failed(findings, false) {
			err := s.wrongFile(folder, findings)
			s.note("%s: %s is wrong", o.prefix(), filepath.Join(folder, config.FileName))
			return none, "", err
		}
	}
	if s.app != "" && s.app != p.app {
		return none, "", usage("%s: this folder is %s, not %s", o.prefix(), p.app, s.app)
	}
	return client.Submission{App: p.app, Commit: commit.SHA, Folder: folder, Key: rand.Text(),
		From: strings.TrimSuffix(o.from, "/"), Urgent: strings.TrimSpace(o.urgent)}, p.dir, nil
}

func nothingShipped(err error) error { return shipOptions{}.nothing(err) }

// prefix begins a message about a commit that was not handed over.
func (o shipOptions) prefix() string {
	if o.tests {
		return "nothing tested"
	}
	return "nothing shipped"
}

// nothing says that the commit was not handed over, and why.
func (o shipOptions) nothing(err error) error {
	said, found := strings.CutPrefix(err.Error(), shipOptions{}.prefix()+": ")
	switch {
	case strings.HasPrefix(err.Error(), o.prefix()):
		return err
	case found:
		return &domain.Error{Code: domain.CodeOf(err), Message: o.prefix() + ": " + said, Hint: domain.HintOf(err), Cause: err}
	}
	return fmt.Errorf("%s: %w", o.prefix(), err)
}

// handOverTries bounds how often a lost answer is asked for again, with the same key: the server answers with the delivery
// that it has stored, if it has.
const handOverTries = 30

func (s *session) handOver(ctx context.Context, c *client.Client, sub client.Submission, dir string) (domain.Delivery, error) {
	lost := false
	for try := 1; ; try++ {
		d, err := s.handOverOnce(ctx, c, sub, dir)
		switch {
		case err == nil:
			return d, nil
		case client.Lost(err):
			if !lost {
				s.note("server away before it answered: asking again, under the same key")
			}
			lost = true
		case !lost || domain.CodeOf(err) != domain.Unavailable:
			return d, nothingShippedYet(err, lost)
		}
		if try == handOverTries {
			return d, domain.Errorf(domain.Unavailable, "%w; the first request may have been accepted", err).
				WithHint("belay status says what is in flight; the same commit is not delivered twice")
		}
		select {
		case <-ctx.Done():
			return d, context.Cause(ctx)
		case <-time.After(s.retry):
		}
	}
}

// nothingShippedYet says so unless an earlier try may have been accepted.
func nothingShippedYet(err error, lost bool) error {
	if lost || domain.CodeOf(err) == domain.Unavailable {
		return err
	}
	return nothingShipped(err)
}

func (s *session) handOverOnce(ctx context.Context, c *client.Client, sub client.Submission, dir string) (domain.Delivery, error) {
	have, err := c.Have(ctx, sub.App)
	if err != nil && domain.CodeOf(err) != domain.NotFound { // an app that was never shipped
		return domain.Delivery{}, err
	}
	if slices.Contains(have, sub.Commit) {
		return c.Ship(ctx, sub)
	}
	bundle, err := source.Bundle(ctx, dir, sub.Commit, have)
	if err != nil {
		return domain.Delivery{}, err
	}
	sub.Bundle = bundle
	d, err := c.Ship(ctx, sub)
	if closed := bundle.Close(); err == nil && closed != nil && d.Number == 0 {
		err = closed
	}
	return d, err
}
