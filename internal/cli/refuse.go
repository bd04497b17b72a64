package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// flagError answers flags that do not exist, above all those by which people try to go around a stage.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && goesAround(cmd.Name(), unknown.GetSpecifiedName()) {
		return domain.Errorf(domain.Refused, "--%s: there is no way around a stage", unknown.GetSpecifiedName()).
			WithHint("all seven run, for everybody; belay plan says what they will do")
	}
	return usage("%s: %w", cmd.Name(), err).WithHint("belay %s --help", cmd.Name())
}

func goesAround(verb, flag string) bool {
	switch {
	case flag == "force", flag == "skip", flag == "no-verify", strings.HasPrefix(flag, "skip-"):
		return true
	case flag == "yes":
		return verb == "ship"
	}
	return false
}

// fail says err on stderr and returns the exit code.
func (s *session) fail(err error) int {
	var code exit
	switch {
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, errInterrupted):
		return exitLeft
	}
	var e *domain.Error
	if !errors.As(err, &e) {
		kind := domain.Failed
		if !s.began { // cobra's own: an unknown command
			kind = domain.Invalid
		}
		e = domain.Errorf(kind, "%s", strings.TrimSpace(err.Error()))
		if kind == domain.Invalid {
			e = e.WithHint("belay --help")
		}
	}
	s.sayError(err.Error(), e)
	return e.Code.Exit()
}

// sayError writes an error for people, for programs with --json, and for GitHub's page with GITHUB_ACTIONS.
func (s *session) sayError(message string, e *domain.Error) {
	if message == "" {
		message = e.Message
	}
	if s.json {
		line, err := json.Marshal(struct {
			Code    domain.Code `json:"code"`
			Message string      `json:"message"`
			Hint    string      `json:"hint,omitempty"`
		}{e.Code, message, e.Hint})
		if err == nil {
			fmt.Fprintf(s.stdio.Err, "%s\n", line)
		}
	} else {
		p := s.errPaint()
		fmt.Fprintln(s.stdio.Err, p.red(printable(message)))
		if e.Hint != "" {
			fmt.Fprintln(s.stdio.Err, p.cyan("hint: "+printable(e.Hint)))
		}
	}
	if s.actions() {
		fmt.Fprintf(s.stdio.Err, "::error::%s\n", annotation(message))
	}
}

// printable cleans text of several lines.
func printable(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = cleanIndented(l)
	}
	return strings.Join(lines, "\n")
}

// actions reports whether this runs in a job of GitHub Actions.
func (s *session) actions() bool { return s.stdio.Env("GITHUB_ACTIONS") == "true" }

// annotate repeats findings in the form that GitHub shows beside the line. Prefix is the app's folder in the repository.
func (s *session) annotate(prefix string, findings []config.Finding) {
	if !s.actions() {
		return
	}
	for _, f := range findings {
		kind := "notice"
		switch f.Severity {
		case config.Error:
			kind = "error"
		case config.Warning:
			kind = "warning"
		}
		message := f.Message
		if f.Hint != "" {
			message += "\nhint: " + f.Hint
		}
		fmt.Fprintf(s.stdio.Err, "::%s file=%s,line=%d,col=%d,endColumn=%d::%s\n", kind, property(prefix+f.File), f.Line, f.Column,
			f.EndColumn, annotation(message))
	}
}

// annotation escapes the message of a workflow command.
func annotation(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// property escapes a value before the message of a workflow command.
func property(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
