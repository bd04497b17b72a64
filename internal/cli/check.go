package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/config"
)

type checkOptions struct {
	files  []string
	strict bool
	demo   bool // shorter times, as a server with --demo takes them
}

func checkCommand(s *session) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use: "check [FILE…]", Short: "Say everything that is wrong with belay.yaml",
		Long: `check reads belay.yaml (or each FILE) and prints every finding with its place and a hint. It asks a server
only whether the secrets of the store are set, where one answers.
A key whose function comes with a later version is accepted and named "not in force yet".

Exit codes
  0 right · 2 errors in the file, or with --strict warnings`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files = args
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().BoolVar(&o.strict, "strict", false, "warnings count as errors")
	cmd.Flags().BoolVar(&o.demo, "demo", false, "accept times below their usual bounds, as belay serve --demo does")
	return cmd
}

func (o checkOptions) run(ctx context.Context, s *session) error {
	if len(o.files) == 0 {
		p, err := s.project()
		if err != nil && p.dir == "" {
			return err
		}
		o.files = []string{filepath.Join(p.dir, config.FileName)}
	}
	failed := false
	for _, name := range o.files {
		bad, err := o.one(ctx, s, name)
		if err != nil {
			return err
		}
		failed = failed || bad
	}
	if failed {
		return exit(exitUsage)
	}
	return nil
}

// one checks one file and reports whether it is wrong.
func (o checkOptions) one(ctx context.Context, s *session, name string) (failed bool, err error) {
	name = s.file(name)
	file, findings, err := load(name, config.Options{Demo: o.demo})
	if err != nil {
		return true, err
	}
	if !config.Failed(findings, false) {
		findings = append(findings, s.unset(ctx, file)...)
	}
	shown := s.shown(name)
	for i := range findings {
		findings[i].File = shown
	}
	s.annotate("", findings)
	failed = config.Failed(findings, o.strict)
	if s.json {
		for _, f := range findings {
			if err := s.document(f); err != nil {
				return failed, err
			}
		}
		return failed, nil
	}
	if !s.quiet || failed {
		if err := config.Format(s.stdio.Out, findings, s.coloured(s.stdio.Out)); err != nil {
			return failed, err
		}
	}
	if failed || s.quiet {
		return failed, nil
	}
	return failed, s.say(rightLine(shown, file, findings) + "\n")
}

// shown is how a file is named in findings: from the folder where the command runs.
func (s *session) shown(name string) string {
	if rel, err := filepath.Rel(s.dir, name); err == nil && len(rel) < len(name) {
		return filepath.ToSlash(rel)
	}
	return name
}

// load reads and checks a file. Under its usual name it is held against the folder around it.
func load(name string, o config.Options) (*config.File, []config.Finding, error) {
	if filepath.Base(name) == config.FileName {
		return config.Load(filepath.Dir(name), o)
	}
	src, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, usage("%s: no such file", name).WithHint("belay init writes %s", config.FileName)
	}
	if err != nil {
		return nil, nil, usage("%w", err)
	}
	file, findings := config.Parse(name, src, o)
	return file, findings, nil
}

// rightLine is the line about a file without errors.
func rightLine(name string, f *config.File, findings []config.Finding) string {
	warnings := int64(0)
	for _, x := range findings {
		if x.Severity == config.Warning {
			warnings++
		}
	}
	text := fmt.Sprintf("%s is right: %s, 2 environments, %s, %s", name, plural(int64(len(f.Roles)), "role", "roles"),
		f.Rollout.Strategy, plural(int64(len(f.Verify.Checks)), "check", "checks"))
	if warnings > 0 {
		text += "; " + plural(warnings, "warning", "warnings") + " above"
	}
	return text
}
