package cli

import (
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// What --json prints of a status: times in UTC, durations in seconds, rates as fractions; absent is not known, never 0.
// It holds no workload, so that no variable of an app shows up in a log.
type (
	statusJSON struct {
		App          string            `json:"app"`
		Held         bool              `json:"held"`
		Hold         *domain.Hold      `json:"hold,omitempty"`
		Freeze       *domain.Freeze    `json:"freeze"`
		Environments []environmentJSON `json:"environments"`
		InFlight     []domain.InFlight `json:"in_flight"`
		Waits        []domain.Wait     `json:"waits"`
	}
	environmentJSON struct {
		Name      domain.Environment      `json:"name"`
		Release   *releaseJSON            `json:"release"`
		Delivery  int                     `json:"delivery,omitempty"`
		Since     *time.Time              `json:"since,omitempty"`
		Instances domain.Instances        `json:"instances"`
		Detail    []domain.InstanceStatus `json:"detail,omitempty"`
		Now       *figuresJSON            `json:"now,omitempty"`
		Before    *figuresJSON            `json:"before,omitempty"`
		Rollback  rollbackJSON            `json:"rollback"`
		Routes    []string                `json:"routes,omitempty"`
		Jobs      []domain.JobStatus      `json:"jobs,omitempty"`
	}
	releaseJSON struct {
		ID      string         `json:"id"`
		Commit  string         `json:"commit"`
		Digest  string         `json:"digest"`
		Schema  int            `json:"schema"`
		Config  string         `json:"config"`
		Secrets map[string]int `json:"secrets,omitempty"`
	}
	figuresJSON struct {
		ErrorRate float64 `json:"error_rate"`
		P50       float64 `json:"p50,omitempty"` // no request takes no time
		P95       float64 `json:"p95,omitempty"`
		P99       float64 `json:"p99,omitempty"`
		RPS       float64 `json:"rps,omitempty"`
	}
	rollbackJSON struct {
		Possible bool     `json:"possible"`
		To       string   `json:"to,omitempty"`
		Commit   string   `json:"commit,omitempty"`
		Warm     bool     `json:"warm"`
		Reason   *string  `json:"reason"`
		Seconds  *float64 `json:"seconds,omitempty"`
	}
)

func statusDocument(s domain.AppStatus) statusJSON {
	out := statusJSON{App: s.App, Held: s.Held, Hold: s.Hold, Freeze: s.Freeze,
		Environments: []environmentJSON{}, InFlight: s.InFlight, Waits: s.Waits}
	if out.InFlight == nil {
		out.InFlight = []domain.InFlight{}
	}
	if out.Waits == nil {
		out.Waits = []domain.Wait{}
	}
	for _, e := range s.Environments {
		env := environmentJSON{Name: e.Name, Delivery: e.Delivery, Since: e.Since, Instances: e.Instances, Detail: e.Detail,
			Now: figuresDocument(e.Now), Before: figuresDocument(e.Before), Routes: e.Routes, Jobs: e.Jobs,
			Rollback: rollbackJSON{Possible: e.Rollback.Possible, To: e.Rollback.To, Commit: e.Rollback.Commit, Warm: e.Rollback.Warm, Seconds: e.Rollback.Seconds}}
		if e.Rollback.Reason != "" {
			env.Rollback.Reason = &e.Rollback.Reason
		}
		if r := e.Release; r != nil {
			env.Release = &releaseJSON{ID: r.ID, Commit: r.Commit, Digest: r.Digest, Schema: r.Schema, Config: r.Config, Secrets: r.Secrets}
		}
		out.Environments = append(out.Environments, env)
	}
	return out
}

func figuresDocument(f *domain.Figures) *figuresJSON {
	if f == nil {
		return nil
	}
	return &figuresJSON{ErrorRate: f.ErrorRate, P50: f.P50, P95: f.P95, P99: f.P99, RPS: f.RPS}
}
