package proxy

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// longestWait bounds a pull of ticks, longestBody a request to the control socket.
const (
	longestWait = 30 * time.Second
	longestBody = 8 << 20
)

// handler is the control API.
func (c *control) handler(health func() Health) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/routes/{app}/{env}/{role}", c.servePut)
	mux.HandleFunc("DELETE /v1/routes/{app}/{env}/{role}", c.serveDelete)
	mux.HandleFunc("GET /v1/routes", func(w http.ResponseWriter, _ *http.Request) {
		status := Status{Boot: c.ledger.boot, Routes: []domain.Route{}}
		for _, r := range c.plane.table.Load().routes {
			status.Routes = append(status.Routes, r.Route)
		}
		slices.SortFunc(status.Routes, func(a, b domain.Route) int { return strings.Compare(a.Key(), b.Key()) })
		writeJSON(w, http.StatusOK, status)
	})
	mux.HandleFunc("GET /v1/ticks", c.serveTicks)
	mux.HandleFunc("GET /v1/inflight", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, c.inFlightAll(r.Context()))
	})
	mux.HandleFunc("POST /v1/drain", serveDrain(c.drainAll))
	mux.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, health())
	})
	return mux
}

func (c *control) servePut(w http.ResponseWriter, r *http.Request) {
	var route domain.Route
	if err := readJSON(w, r, &route); err != nil {
		writeProblem(w, err)
		return
	}
	if key := r.PathValue("app") + "/" + r.PathValue("env") + "/" + r.PathValue("role"); key != route.Key() {
		writeProblem(w, domain.Errorf(domain.Invalid, "route %s was put as %s", route.Key(), key))
		return
	}
	applied, err := c.put(route)
	if err != nil {
		writeProblem(w, err)
		return
	}
	writeJSON(w, http.StatusOK, applied)
}

func (c *control) serveDelete(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("app") + "/" + r.PathValue("env") + "/" + r.PathValue("role")
	if err := c.remove(key); err != nil {
		writeProblem(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (c *control) serveTicks(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after, err := strconv.ParseInt(first(q.Get("after"), "0"), 10, 64)
	if err != nil {
		writeProblem(w, domain.Errorf(domain.Invalid, "after: %w", err))
		return
	}
	wait, err := time.ParseDuration(first(q.Get("wait"), "0s"))
	if err != nil {
		writeProblem(w, domain.Errorf(domain.Invalid, "wait: %w", err))
		return
	}
	page, err := c.ledger.pull(r.Context(), q.Get("boot"), after, min(wait, longestWait))
	if err != nil {
		writeProblem(w, domain.Errorf(domain.Unavailable, "ticks: %w", err))
		return
	}
	writeJSON(w, http.StatusOK, page)
}

func serveDrain(drain func(context.Context, DrainRequest) (DrainResult, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var d DrainRequest
		if err := readJSON(w, r, &d); err != nil {
			writeProblem(w, err)
			return
		}
		result, err := drain(r.Context(), d)
		if err != nil {
			writeProblem(w, err)
			return
		}
		writeJSON(w, http.StatusOK, result)
	}
}

func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longestBody)).Decode(v); err != nil {
		return domain.Errorf(domain.Invalid, "body: %w", err)
	}
	return nil
}
