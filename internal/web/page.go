package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// appView is one app of the page.
type appView struct {
	domain.AppStatus
	Newest *domain.Delivery
	Failed string // why the app cannot be shown
}

func newTemplate() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"short": domain.ShortCommit, "time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"span": span, "progress": progress,
	}).Parse(pageText))
}

// span writes seconds as people read them.
func span(seconds *float64) string {
	if *seconds < 1 {
		return fmt.Sprintf("%.0f ms", *seconds*1000)
	}
	return fmt.Sprintf("%.1f s", *seconds)
}

// progress says where the traffic is in a stage that is not over, and until when it stays there.
func progress(s domain.StageRecord) string {
	var parts []string
	for _, step := range s.Steps {
		switch {
		case step.Verb == "shift" && step.State == domain.DoneState && step.Weight != nil:
			parts = []string{fmt.Sprintf("next has %.4g %%", *step.Weight*100)}
		case step.Verb == "bake" && step.State == domain.Running && step.Until != nil:
			parts = append(parts, "watched until "+step.Until.UTC().Format("15:04:05 UTC"))
			if step.Needed > 0 {
				parts = append(parts, fmt.Sprintf("evidence of harm %.4g of %.4g", step.Evidence, step.Needed))
			}
		}
	}
	return strings.Join(parts, ", ")
}

// page shows people what runs where and how far the newest delivery is; at /APP/NUMBER it shows that one delivery. It needs
// no script.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	names, number, err := s.asked(r)
	if err != nil {
		writeProblem(w, problemOf(r.Context(), s.options.Log, err))
		return
	}
	views := make([]appView, 0, len(names))
	for _, name := range names {
		views = append(views, s.view(r.Context(), name, number))
	}
	var page bytes.Buffer
	err = s.template.Execute(&page, map[string]any{
		"Apps": views, "Now": time.Now(), "By": by(r.Context()), "Version": s.options.Version,
		"Style": template.CSS(pageStyle), //nolint:gosec // our own file
	})
	if err != nil {
		writeProblem(w, problemOf(r.Context(), s.options.Log, err))
		return
	}
	style := sha256.Sum256([]byte(pageStyle))
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(style[:])+
		"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page.Bytes()) // whoever has gone sees nothing
}

// deliveryPage takes the path of a delivery's page apart: /APP/NUMBER.
func deliveryPage(r *http.Request) (app, number string, ok bool) {
	app, number, ok = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	_, err := strconv.Atoi(number)
	return app, number, ok && err == nil && r.Method == http.MethodGet
}

// asked returns the apps of a page, and the delivery that it is about, 0 for the newest of each.
func (s *Server) asked(r *http.Request) (names []string, number int, err error) {
	app := r.PathValue("app")
	if app == "" {
		names, err = s.service.Apps(r.Context())
		return names, 0, err
	}
	number, err = strconv.Atoi(r.PathValue("number"))
	if err != nil || number < 1 {
		return nil, 0, domain.Errorf(domain.NotFound, "%s: not found", r.URL.Path).WithHint("/APP/NUMBER shows a delivery")
	}
	_, err = s.service.Delivery(r.Context(), app, number)
	return []string{app}, number, err
}

func (s *Server) view(ctx context.Context, app string, number int) appView {
	status, err := s.service.Status(ctx, app)
	if err != nil {
		return appView{AppStatus: domain.AppStatus{App: app}, Failed: problemOf(ctx, s.options.Log, err).Detail}
	}
	view := appView{AppStatus: status}
	newest, err := s.service.Delivery(ctx, app, number)
	switch {
	case err == nil:
		view.Newest = &newest
	case domain.CodeOf(err) != domain.NotFound:
		view.Failed = problemOf(ctx, s.options.Log, err).Detail
	}
	return view
}
