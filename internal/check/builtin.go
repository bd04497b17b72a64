package check

import (
	"net/http"

	"github.com/belay-cd/belay/internal/domain"
)

// Health returns the check that every role with an http probe, or a folder that is served, gets without being declared:
// its answer is 200. It reports false for a role that answers no http.
func Health(w domain.Workload) (Check, bool) {
	path := w.Probe.HTTP
	if path == "" && w.Static != "" {
		path = "/"
	}
	if path == "" {
		return Check{}, false
	}
	return Check{Name: "health " + w.Role, Role: w.Role, HTTP: &HTTP{Path: path, Status: http.StatusOK}}, true
}
