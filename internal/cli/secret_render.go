package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// revokedWithin is how long is waited for what follows the delivery of a rotation with --revoke.
const revokedWithin = 15 * time.Second

// revoked says what became of the versions before. The server does it whether or not somebody waits.
func (o secretOptions) revoked(ctx context.Context, s *session, c *client.Client, v domain.SecretVersion) error {
	if !o.revoke {
		return nil
	}
	for end := time.Now().Add(revokedWithin); ; {
		list, err := c.SecretHistory(ctx, v.App, v.Name)
		if err != nil {
			return err
		}
		var done []string
		open := false
		for _, past := range list {
			if past.Environment != v.Environment || past.Version >= v.Version {
				continue
			}
			open = open || past.State != domain.RevokedSecret
			done = append(done, fmt.Sprintf("v%d", past.Version))
		}
		if !open {
			s.note("revoked: %s of %s: wiped, and taken from every release", strings.Join(done, ", "), v.SecretPlace)
			return nil
		}
		if time.Now().After(end) {
			s.note("the versions before are not revoked yet: the server goes on; belay secret history %s", v.Name)
			return nil
		}
		select {
		case <-time.After(s.retry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *session) secrets(ctx context.Context, findingsOnly bool) error {
	app, c, err := s.connectApp()
	if err != nil {
		return err
	}
	defer c.Close()
	report, err := c.Secrets(ctx, app)
	if err != nil {
		return err
	}
	if s.json {
		var doc any = report
		if findingsOnly {
			doc = map[string]any{"app": report.App, "findings": report.Findings}
		}
		err = s.document(doc)
	} else {
		err = s.sayReport(report, findingsOnly)
	}
	if err == nil && len(report.Findings) > 0 {
		err = exit(exitFailed)
	}
	return err
}

func (s *session) sayReport(report domain.SecretReport, findingsOnly bool) error {
	if !findingsOnly && !s.quiet {
		if err := s.say(s.secretTable(report)); err != nil {
			return err
		}
	}
	var said []string
	for _, f := range report.Findings {
		said = append(said, clean(f.Message))
	}
	text := "nothing is wrong with the secrets of " + report.App
	if n := len(said); n > 0 {
		text = plural(int64(n), "finding", "findings") + ": " + strings.Join(said, "; ")
	}
	if err := s.say(text + "\n"); err != nil {
		return err
	}
	hints := map[string]bool{}
	for _, f := range report.Findings {
		if f.Hint != "" && !hints[f.Hint] {
			hints[f.Hint] = true
			s.note("hint: %s", clean(f.Hint))
		}
	}
	return nil
}

// secretTable draws one line per secret, and a column for builds where there are secrets of builds.
func (s *session) secretTable(report domain.SecretReport) string {
	columns := []domain.Environment{domain.Staging, domain.Production}
	for _, one := range report.Secrets {
		if _, ok := one.In(domain.BuildSecrets); ok && len(columns) == 2 {
			columns = append(columns, domain.BuildSecrets)
		}
	}
	head := []string{"name"}
	for _, env := range columns {
		head = append(head, string(env))
	}
	rows := [][]string{append(head, "used by", "from")}
	for _, one := range report.Secrets {
		row := []string{clean(one.Name)}
		for _, env := range columns {
			there, ok := one.In(env)
			row = append(row, s.secretCell(there, ok))
		}
		rows = append(rows, append(row, orElse(clean(strings.Join(one.UsedBy, ", ")), "nothing"), clean(one.From)))
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], size(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			line += pad(cell, widths[i]+3)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

func (s *session) secretCell(p domain.SecretPresence, ok bool) string {
	if !ok {
		return ""
	}
	switch p.State {
	case "missing":
		return "not set"
	case "unreadable", "not asked":
		return p.State
	}
	text := "set"
	if p.Version > 0 {
		text = fmt.Sprintf("v%-3d", p.Version)
	}
	if p.Since != nil {
		text += right(secretAge(s.now().Sub(*p.Since)), 6)
	}
	if p.Old {
		text += "  old"
	}
	return strings.TrimRight(text, " ")
}

// secretAge is how old a value is, in one word or two.
func secretAge(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}

func (s *session) secretHistory(ctx context.Context, name string) error {
	p, err := secretOptions{name: name, env: string(domain.Staging)}.place(s)
	if _, channel := (domain.SecretPlace{Name: name}).Channel(); channel {
		p, err = secretOptions{name: name}.place(s)
	}
	if err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.SecretHistory(ctx, p.App, name)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(list)
	}
	var b strings.Builder
	env := domain.Environment("-")
	for _, v := range list {
		if v.Environment != env {
			env = v.Environment
			fmt.Fprintf(&b, "%s\n", clean(v.SecretPlace.String()))
		}
		fmt.Fprintf(&b, "  v%-3d %s %s by %s (%s)%s\n", v.Version, pad(string(v.State), 9), stamp(v.Set), clean(v.By), clean(v.From), clean(fateOf(v)))
	}
	return s.say(b.String())
}

// fateOf says who has a version, or that nobody can have it any more.
func fateOf(v domain.SecretVersion) string {
	text := ""
	if v.Ended != nil {
		text = "; wiped " + stamp(*v.Ended)
	}
	switch {
	case v.State == domain.RevokedSecret && len(v.Releases) > 0:
		return text + "; it was in " + strings.Join(v.Releases, ", ")
	case len(v.Releases) > 0:
		return text + "; in " + strings.Join(v.Releases, ", ")
	default:
		return text
	}
}
