package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

type answerOptions struct {
	reason string
	yes    bool
	// What needs a yes of its own: no way back, and an urgent delivery outside of its window.
	noWayBack, window bool
}

// gate is what the yes names, "" for what the delivery asks by itself.
func (o answerOptions) gate() string {
	switch {
	case o.noWayBack:
		return "way back"
	case o.window:
		return "window"
	}
	return ""
}

func approveCommand(s *session) *cobra.Command {
	var o answerOptions
	cmd := &cobra.Command{
		Use: "approve [ID]", Short: "Say yes to what a delivery waits for", Args: atMost(1),
		Long: `approve shows what a delivery waits for and records your yes. Without ID it is the only one that waits for somebody's
word. On a terminal it asks once more; anywhere else --yes says that you mean it. It is a person's: it is taken on the
server itself, through its socket, and not with a token. It is for the artifact that was shown, and for nothing else: a yes
to a delivery without a way back, or to one outside of its window, says so.

Exit codes
  0 recorded, and it goes on · 2 several wait, none does, or nobody can be asked · 3 server not reached: the line says
  whether the request may have been accepted · 10 recorded, and more approvals are needed
  12 you are its author, not asked, or a machine; it asks nothing now: ended, expired or superseded; or another artifact`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.approve(cmd.Context(), s, argument(args)) },
	}
	o.flags(cmd, "do not ask once more")
	cmd.Flags().BoolVar(&o.noWayBack, "no-way-back", false, "agree that there is no way back from it")
	cmd.Flags().BoolVar(&o.window, "window", false, "let an urgent delivery go outside of its window")
	cmd.MarkFlagsMutuallyExclusive("no-way-back", "window")
	return cmd
}

func rejectCommand(s *session) *cobra.Command {
	var o answerOptions
	cmd := &cobra.Command{
		Use: "reject [ID]", Short: "Say no to what a delivery waits for: it ends, and goes back where it had traffic", Args: atMost(1),
		Long: `reject ends a delivery that waits for somebody's word; without ID it is the only one that does. What had traffic is
rolled back. It asks nothing: no is always safe.

Exit codes
  0 recorded · 2 several wait, or none does · 3 server not reached: the line says whether the request may have been
  accepted · 12 it has ended already, or no right`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.reject(cmd.Context(), s, argument(args)) },
	}
	o.flags(cmd, "has no effect: it never asks")
	return cmd
}

func (o *answerOptions) flags(cmd *cobra.Command, yes string) {
	cmd.Flags().StringVar(&o.reason, "reason", "", "`WHY`, for the record")
	cmd.Flags().BoolVar(&o.yes, "yes", false, yes)
}

func (o answerOptions) approve(ctx context.Context, s *session, id string) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := s.waiting(ctx, c, id)
	if err != nil {
		return err
	}
	if !o.yes {
		if err := s.sure(ctx, c, d); err != nil {
			return err
		}
	}
	d, err = c.Approve(ctx, d.App, d.Number, client.Approval{Gate: o.gate(), Digest: d.Digest, Reason: o.reason})
	if err != nil {
		return err
	}
	more := openApprovals(d)
	if s.json {
		err = s.document(d)
	} else {
		said := "approved: " + s.goesOn(d)
		if more != nil {
			said = "approved, more are needed" + prefixed(": ", clean(more.Detail))
		}
		err = s.say(said + "\n")
	}
	if err == nil && more != nil {
		err = exit(exitWaits)
	}
	return err
}

func (o answerOptions) reject(ctx context.Context, s *session, id string) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := s.waiting(ctx, c, id)
	if err != nil {
		return err
	}
	if d, err = c.Reject(ctx, d.App, d.Number, o.reason); err != nil {
		return err
	}
	if s.json {
		return s.document(d)
	}
	return s.say(ending(d))
}

// openApprovals returns the gate that waits for more people than have agreed, nil when there is none.
func openApprovals(d domain.Delivery) *domain.Gate {
	i := slices.IndexFunc(d.Gates, func(g domain.Gate) bool { return g.Name == "approvals" && g.State == "waiting" })
	if i < 0 || d.State != domain.WaitingState {
		return nil
	}
	return &d.Gates[i]
}

func (s *session) goesOn(d domain.Delivery) string {
	return fmt.Sprintf("%s #%d %s goes on: belay show %d --follow", d.App, d.Number, domain.ShortCommit(d.Commit), d.Number)
}

// lookedThrough is how many of an app's newest deliveries may wait.
const lookedThrough = 100

// waiting finds the delivery that id names, and without one the only one that waits for somebody's word.
func (s *session) waiting(ctx context.Context, c *client.Client, id string) (domain.Delivery, error) {
	if id != "" {
		return s.delivery(ctx, c, id)
	}
	app, err := s.appName()
	if err != nil {
		return domain.Delivery{}, err
	}
	list, err := c.Deliveries(ctx, app, lookedThrough)
	if err != nil {
		return domain.Delivery{}, err
	}
	list = slices.DeleteFunc(list, func(d domain.Delivery) bool { return !atGate(d) })
	switch len(list) {
	case 0:
		return domain.Delivery{}, domain.Errorf(domain.NotFound, "no delivery of %s waits for somebody's word", app).WithHint("belay status")
	case 1:
		return list[0], nil
	}
	for _, d := range list {
		if err := s.say(fmt.Sprintf("#%d %s  %s\n", d.Number, domain.ShortCommit(d.Commit), waitsFor(d))); err != nil {
			return domain.Delivery{}, err
		}
	}
	return domain.Delivery{}, usage("%d deliveries of %s wait: which one?", len(list), app).WithHint("belay approve %d", list[0].Number)
}

func waitsFor(d domain.Delivery) string {
	if d.Wait == nil {
		return absent
	}
	return clean(d.Wait.Reason)
}

// sure shows what is about to be approved and asks whether it is meant. Where nobody can be asked it is refused.
func (s *session) sure(ctx context.Context, c *client.Client, d domain.Delivery) error {
	if !s.asks() {
		return usage("approve: there is no terminal to ask on: nothing was approved").WithHint("belay approve %d --yes", d.Number)
	}
	changes, err := c.Changes(ctx, d.App, d.Number)
	if err != nil {
		return err
	}
	fmt.Fprint(s.stdio.Err, s.view().request(d, changes), "approve? [y/N] ")
	answered := make(chan string, 1)
	go func() {
		answer, _ := bufio.NewReader(s.stdio.In).ReadString('\n') // what cannot be read is no yes
		answered <- strings.ToLower(strings.TrimSpace(answer))
	}()
	select {
	case a := <-answered:
		if a == "y" || a == "yes" {
			return nil
		}
	case <-ctx.Done():
		fmt.Fprintln(s.stdio.Err)
	}
	s.note("nothing was approved")
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return exit(exitUsage)
}

// asks reports whether there is somebody at a terminal who can answer.
func (s *session) asks() bool {
	f, ok := s.stdio.In.(*os.File)
	return ok && !s.json && term.IsTerminal(int(f.Fd()))
}

// request draws what an approval is about.
func (v view) request(d domain.Delivery, c web.Changes) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s #%d %s by %s: %s to production\n", d.App, d.Number, domain.ShortCommit(d.Commit), clean(orElse(d.Author, d.ShippedBy)),
		orElse(shortDigest(d.Digest), "no artifact yet"))
	row := func(name, text string) {
		for i, l := range wrap(text, v.width-12) {
			if i > 0 {
				name = ""
			}
			b.WriteString(strings.TrimRight("  "+pad(name, 10)+l, " ") + "\n")
		}
	}
	row("waits", waitsFor(d))
	row("changes", changed(c))
	for i, subject := range c.Subjects {
		if i == shownSubjects {
			row("", fmt.Sprintf("and %d more", c.Commits-shownSubjects))
			break
		}
		row("", clean(subject))
	}
	if d.Urgent != "" {
		row("urgent", clean(d.Urgent))
	}
	loosened := "nothing"
	if len(d.Loosened) > 0 {
		loosened = clean(strings.Join(d.Loosened, "; "))
	}
	row("gates", "loosened by this commit: "+loosened)
	for _, g := range d.Gates {
		if g.Name == "policy" && g.Detail != "" {
			row("policy", clean(g.Detail))
		}
	}
	for _, st := range d.Stages {
		if st.Name == domain.VerifyStaging && st.Summary != "" {
			row("staging", clean(st.Summary))
		}
	}
	if back := rehearsed(d.Rehearsal); back != "" {
		row("rollback", back)
	}
	if len(d.Checklist) > 0 {
		row("checklist", checked(d.Checklist))
	}
	if _, said := heard(d); said != "" {
		row("seen", clean(said))
	}
	return b.String()
}

// checked counts what is right of a checklist, and names what is not.
func checked(list []domain.CheckItem) string {
	var open []string
	for _, c := range list {
		if !c.OK {
			open = append(open, clean(c.Item)+prefixed(": ", clean(c.Detail)))
		}
	}
	return fmt.Sprintf("%d of %d", len(list)-len(open), len(list)) + prefixed(", but: ", strings.Join(open, "; "))
}

// shownSubjects is how many commits an approval names.
const shownSubjects = 5

// changed counts what a delivery brings, and names what is not its code.
func changed(c web.Changes) string {
	list := func(names []string, what string) string {
		text := fmt.Sprintf("%d %ss", len(names), what)
		if len(names) == 1 {
			text = "1 " + what
		}
		if len(names) == 0 {
			return text
		}
		return text + " (" + clean(strings.Join(names, ", ")) + ")"
	}
	commits := fmt.Sprintf("%d commits", c.Commits)
	if c.Commits == 1 {
		commits = "1 commit"
	}
	if c.From == "" {
		commits += ", the first release"
	}
	if c.Back > 0 {
		commits += fmt.Sprintf(", and without %d that serve now", c.Back)
	}
	return strings.Join([]string{commits, list(c.Migrations, "migration"), list(c.Variables, "variable"), list(c.Secrets, "secret version")}, ", ")
}
