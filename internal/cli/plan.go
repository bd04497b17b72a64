package cli

import (
	"context"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/web"
)

func planCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "plan [REF]", Short: "Say what would happen if a commit were shipped now", Args: atMost(1),
		Long: `plan prints the seven stages and each step of the rollout for the commit REF (HEAD). Nothing is touched.

Exit codes
  0 printed · 2 errors in the file, or an unknown ref · 3 server not reached · 12 it would be refused now`,
		RunE: func(cmd *cobra.Command, args []string) error { return runPlan(cmd.Context(), s, argument(args)) },
	}
}

// argument is the only argument, or "".
func argument(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func runPlan(ctx context.Context, s *session, ref string) error {
	p, err := s.project()
	if err != nil {
		return err
	}
	commit, err := source.Resolve(ctx, p.dir, ref)
	if err != nil {
		return err
	}
	root, folder, err := place(ctx, p.dir)
	if err != nil {
		return err
	}
	file, err := source.ReadFile(ctx, filepath.Join(root, ".git"), commit.SHA, path.Join(folder, config.FileName))
	if err != nil {
		return err
	}
	bounds := serverBounds
	bounds.Folder = path.Clean(folder)
	parsed, findings := config.Parse(config.FileName, file, bounds)
	if parsed == nil || config.Failed(findings, false) {
		return s.wrongFile(folder, findings)
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	view, err := c.Plan(ctx, string(parsed.App), commit.SHA, file)
	if err != nil {
		return err
	}
	if s.json {
		err = s.document(view)
	} else {
		s.foresee(ctx, c, parsed, &view)
		err = s.say(s.view().plan(view))
	}
	if err == nil && view.Refused != "" {
		err = exit(domain.Refused.Exit())
	}
	return err
}

// foresee adds to each bake of a canary which errors it would show at the traffic of now, where that is known.
func (s *session) foresee(ctx context.Context, c *client.Client, file *config.File, p *web.PlanView) {
	status, err := c.Status(ctx, p.App)
	now := productionNow(status)
	if err != nil || now == nil || now.RPS <= 0 || file.Rollout.Strategy != config.Canary {
		return // a first delivery, or nobody came: the plan says what it can without
	}
	plan, _ := planOf(file)
	for _, row := range p.Rows {
		for i := range row.Steps {
			step := &row.Steps[i]
			for _, known := range plan {
				if row.Stage != domain.DeployProduction || step.Verb != "bake" || step.What != "next "+percent(float64(known.Weight)/weightAll) {
					continue
				}
				held := heldTo(file, "").judge
				if v, _ := detectable(held, now.RPS, now.ErrorRate, known); v.DetectableRate > 0 {
					step.Detail += ", shows errors of " + showsText(v.Detectable, v.DetectableRate)
				}
			}
		}
	}
}

// place returns the top of the repository and the app's folder in it, "" for the top itself.
func place(ctx context.Context, dir string) (root, folder string, err error) {
	if root, err = source.Root(ctx, dir); err != nil {
		return "", "", err
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", "", usage("%w", err)
	}
	if folder, err = filepath.Rel(root, resolved); err != nil || strings.HasPrefix(folder, "..") {
		return "", "", usage("%s is not in the repository %s", resolved, root)
	}
	if folder == "." {
		folder = ""
	}
	return root, filepath.ToSlash(folder), nil
}

// wrongFile prints findings to stderr and ends with the code of a wrong file.
func (s *session) wrongFile(folder string, findings []config.Finding) error {
	prefix := ""
	if folder != "" {
		prefix = folder + "/"
	}
	s.annotate(prefix, findings)
	if s.above { // the name alone would not say which file is meant
		findings = slices.Clone(findings)
		for i := range findings {
			findings[i].File = prefix + findings[i].File
		}
	}
	if err := config.Format(s.stdio.Err, findings, s.coloured(s.stdio.Err)); err != nil {
		return err
	}
	return exit(exitUsage)
}
