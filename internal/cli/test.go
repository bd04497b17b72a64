package cli

import (
	"context"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/web"
)

type testOptions struct {
	ref    string
	level  string
	all    bool
	follow bool
}

func testCommand(s *session) *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use: "test [REF]", Short: "Build and test a change before its merge", Args: atMost(1),
		Long: `test hands the commit REF (HEAD) to the server, which runs the stages build and test alone, and shows how they go.
What the change does not touch is taken from earlier runs, and said to be. It makes no delivery and changes no environment.
A tree with changes that no commit holds is refused. Deliveries go before test runs; ctrl-c ends the run and all of it.
Where no belay.yaml stands in the folder or above it, each app below is tested whose inputs changed since the last delivery
that was done.

Exit codes
  0 green · 1 red · 2 wrong file, dirty tree, unknown ref or level · 3 server not reached, or away before the verdict
  12 no right, too many test runs, or it gave way to an urgent delivery · 130 ended by ctrl-c`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ref = argument(args)
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().StringVar(&o.level, "level", "", "only this `LEVEL`: unit, integration or e2e")
	cmd.Flags().BoolVar(&o.all, "all", false, "run what the change does not touch, too")
	cmd.Flags().BoolVar(&o.follow, "follow", false, "with --json: one line per event, the verdict last")
	return cmd
}

func (o testOptions) run(ctx context.Context, s *session) error {
	if o.level != "" && !slices.Contains([]string{"unit", "integration", "e2e"}, o.level) {
		return usage("nothing tested: %q is no level", o.level).WithHint("unit, integration or e2e")
	}
	ship := shipOptions{ref: o.ref, tests: true}
	list, err := ship.several(ctx, s)
	if err != nil {
		return err
	}
	several := len(list) > 0
	if !several {
		sub, dir, err := ship.prepare(ctx, s)
		if err != nil {
			return err
		}
		list = []candidate{{s: s, sub: sub, dir: dir}}
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	var first error
	for _, one := range list {
		if number := o.untouched(ctx, c, one); several && number != 0 {
			s.note("%s: nothing that it is made of changed since #%d", one.sub.App, number)
			continue
		}
		err := o.one(ctx, c, one)
		if ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// untouched returns the last delivery of an app that was done, when nothing that the app is made of changed since.
func (o testOptions) untouched(ctx context.Context, c *client.Client, one candidate) int {
	list, err := c.Deliveries(ctx, one.sub.App, longIDs)
	if err != nil || o.all {
		return 0
	}
	for _, d := range list {
		if d.State == domain.DoneState {
			if one.touchedSince(ctx, d.Commit) {
				return 0
			}
			return d.Number
		}
	}
	return 0
}

// one tests one app and ends with its verdict.
func (o testOptions) one(ctx context.Context, c *client.Client, one candidate) error {
	request := client.TestRequest{App: one.sub.App, Commit: one.sub.Commit, Folder: one.sub.Folder, Level: o.level, All: o.all}
	have, err := c.Have(ctx, request.App)
	if err != nil && domain.CodeOf(err) != domain.NotFound { // an app that was never handed over
		return err
	}
	var bundle io.ReadCloser
	if !slices.Contains(have, request.Commit) {
		if bundle, err = source.Bundle(ctx, one.dir, request.Commit, have); err != nil {
			return shipOptions{tests: true}.nothing(err)
		}
		defer func() { _ = bundle.Close() }() // what matters of its end was said when it was read
		request.Bundle = bundle
	}
	tells := &testTeller{s: one.s, o: o, app: request.App}
	if err := c.Test(ctx, request, tells.see); err != nil {
		switch {
		case ctx.Err() != nil:
			one.s.note("ended, with all that it had started")
		case !tells.accepted && domain.CodeOf(err) != domain.Unavailable:
			return shipOptions{tests: true}.nothing(err)
		}
		return err
	}
	return tells.end(ctx, one)
}

// testTeller shows one test run.
type testTeller struct {
	s       *session
	o       testOptions
	app     string
	verdict *web.TestVerdict
	// accepted says that the server has begun.
	accepted bool
}

// see shows one event.
func (t *testTeller) see(e web.TestEvent) error {
	t.accepted = true
	if e.Verdict != nil {
		t.verdict = e.Verdict
	}
	switch {
	case t.s.json && t.o.follow:
		return t.s.document(e)
	case t.s.json || t.s.quiet:
		return nil
	}
	text := t.line(e)
	if text == "" {
		return nil
	}
	return t.s.say(utc(e.At) + " " + text + "\n")
}

// line is an event as one line; "" where it says nothing to people.
func (t *testTeller) line(e web.TestEvent) string {
	switch e.Type { //nolint:exhaustive // the verdict is told at the end
	case "accepted":
		return fmt.Sprintf("%s %s before its merge", t.app, domain.ShortCommit(e.Commit))
	case "wait":
		return fmt.Sprintf("waits: %s (%s, until %s)", clean(e.Wait.Reason), clean(e.Wait.Owner), utc(e.Wait.Deadline))
	case "stage":
		return stageLine(e.Row)
	case "level":
		return "  " + pad(clean(e.Level.Level), nameColumn-2) + levelLine(*e.Level)
	case "failure":
		return "  failed  " + clean(told(e.Failure.Name, firstLine(e.Failure.Message)))
	case "log":
		lines := strings.Split(e.Text, "\n")
		for i, l := range lines {
			lines[i] = cleanIndented(l)
		}
		return strings.Join(lines, "\n"+strings.Repeat(" ", len("15:04:05Z ")))
	}
	return ""
}

// stageLine tells the beginning or the end of a stage, with its notes.
func stageLine(row *domain.StageRecord) string {
	if row.Ended == nil || row.Started == nil {
		return string(row.Name)
	}
	text := pad(string(row.Name), nameColumn) + pad(words(row.State), 8) + took(row.Ended.Sub(*row.Started)) + prefixed("  ", clean(row.Summary))
	for _, n := range row.Notes {
		text += "\n" + strings.Repeat(" ", len("15:04:05Z ")) + "  note  " + clean(n)
	}
	return text
}

// levelLine says how much of a level ran, and where the rest comes from.
func levelLine(l domain.LevelRecord) string {
	ran := l.Passed + l.Failed
	switch {
	case l.State == "pending":
		return "not run: " + clean(l.Reason)
	case l.State == "done" && l.CachedFrom != "" && l.Cached >= ran:
		return fmt.Sprintf("cached from %s: nothing that it depends on changed", clean(l.CachedFrom))
	}
	var parts []string
	if l.Counted {
		text := count(int64(l.Passed)) + " passed"
		if l.Failed > 0 {
			text += ", " + count(int64(l.Failed)) + " failed"
		}
		if l.Skipped > 0 {
			text += ", " + count(int64(l.Skipped)) + " skipped"
		}
		parts = append(parts, text)
	}
	if l.Cached > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s ran", count(int64(ran-l.Cached)), count(int64(ran))))
	}
	if l.Took > 0 {
		parts = append(parts, took(seconds(l.Took)))
	}
	if more := clean(remark(l)); more != "" {
		parts = append(parts, more)
	}
	return strings.Join(parts, " · ")
}

// end tells the verdict, and returns the exit code.
func (t *testTeller) end(ctx context.Context, one candidate) error {
	v := t.verdict
	if v == nil {
		return domain.Errorf(domain.Unavailable, "the server gave no verdict").WithHint("compare belay version here and on the server")
	}
	t.annotate(ctx, one, v)
	if err := t.say(v); err != nil {
		return err
	}
	if !v.Green {
		return exit(exitFailed)
	}
	return nil
}

func (t *testTeller) say(v *web.TestVerdict) error {
	if t.s.json {
		if t.o.follow { // it was the last line
			return nil
		}
		return t.s.document(v)
	}
	p := paint{on: t.s.coloured(t.s.stdio.Out)}
	sentence := clean(v.Sentence)
	if v.Green {
		sentence = p.green(sentence)
	} else {
		sentence = p.red(sentence)
	}
	text := fmt.Sprintf("%s %s %s  %s\n", v.App, domain.ShortCommit(v.Commit), sentence, took(seconds(v.Took)))
	if v.Only != "" {
		text += "  only " + v.Only + " ran: this is not the whole pyramid\n"
	}
	for _, l := range v.Loosened {
		text += "  loosens, for the deliveries after its own: " + clean(l) + "\n"
	}
	if v.Hint != "" && !v.Green {
		text += p.cyan("hint: "+clean(v.Hint)) + "\n"
	}
	return t.s.say(text)
}

// place is where a text names a line of a file: app_test.go:12, tests/test_cart.py:40.
var failurePlace = regexp.MustCompile(`([\w@./-]+\.[A-Za-z]\w*):(\d+)`)

// annotate shows each failed test beside its line on GitHub's page, as far as its output names one of the commit's files.
func (t *testTeller) annotate(ctx context.Context, one candidate, v *web.TestVerdict) {
	if !t.s.actions() || v.Green {
		return
	}
	root, err := source.Root(ctx, one.dir)
	var files []string
	if err == nil {
		files, err = source.Files(ctx, filepath.Join(root, ".git"), v.Commit, v.Folder)
	}
	if err != nil { // without the names of the files there is no line to show
		files = nil
	}
	for _, f := range v.Failures {
		message := annotation(told(f.Level+": "+f.Name, firstLine(f.Message)))
		file, line := placeOf(f, files)
		if file == "" {
			fmt.Fprintf(t.s.stdio.Err, "::error::%s\n", message)
			continue
		}
		fmt.Fprintf(t.s.stdio.Err, "::error file=%s,line=%d::%s\n", property(path.Join(v.Folder, file)), line, message)
	}
	if len(v.Failures) == 0 {
		fmt.Fprintf(t.s.stdio.Err, "::error::%s\n", annotation(v.Sentence))
	}
}

// placeOf finds the first file and line of the commit that a failure names. A name without its folder counts where only one
// file ends so, or where the test's own name leads to its folder.
func placeOf(f web.TestFailure, files []string) (string, int) {
	for _, m := range failurePlace.FindAllStringSubmatch(f.Message+"\n"+f.Output, -1) {
		line, err := strconv.Atoi(m[2])
		if err != nil {
			continue
		}
		name := strings.TrimPrefix(path.Clean(m[1]), "/")
		var fits []string
		for _, file := range files {
			if file == name || strings.HasSuffix(file, "/"+name) || strings.HasSuffix(name, "/"+file) {
				fits = append(fits, file)
			}
		}
		if len(fits) > 1 {
			fits = slices.DeleteFunc(fits, func(file string) bool {
				dir := path.Dir(file)
				return !strings.Contains(f.Name, dir+".") && file != name
			})
		}
		if len(fits) == 1 {
			return fits[0], line
		}
	}
	return "", 0
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
