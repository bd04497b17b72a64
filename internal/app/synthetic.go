package app

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/proxy"
	"github.com/belay-cd/belay/internal/rollout"
)

// synthetic makes load out of what the file declares for its checks: requests that only read, and flows.
type synthetic struct {
	checks *checks
	// health says where the proxy listens.
	health func(ctx context.Context) (proxy.Health, error)
}

// The bounds of what is sent to next before its first visitor.
const (
	warmEach   = 20 // requests for each instance
	warmWithin = 5 * time.Second
	warmOne    = 2 * time.Second // one request
	warmAtOnce = 8
)

// question is a request that only reads, of one role.
type question struct {
	role string
	http check.HTTP
}

// questions are the checks of the file that only read over http, by name, and the probe of each web role.
func (s *synthetic) questions(j delivery.CheckJob) (declared, probes []question) {
	web := map[string]bool{}
	for _, role := range webRoles(&j.Rollout.Next) {
		web[role] = true
	}
	for _, k := range s.checks.declared(j) {
		if k.HTTP != nil && k.HTTP.Reads() && web[k.Role] {
			declared = append(declared, question{k.Role, *k.HTTP})
		}
	}
	for _, w := range j.Rollout.Next.Workloads {
		if health, ok := check.Health(w); ok && web[w.Role] {
			probes = append(probes, question{w.Role, *health.HTTP})
		}
	}
	return declared, probes
}

// Warm fills what the first requests fill: each instance of each web role of next is asked about as often. The data plane
// gives a request to the instance with the fewest open ones, by chance among several, so that all have their share.
func (s *synthetic) Warm(ctx context.Context, j delivery.CheckJob) {
	j.Rollout = j.Rollout.View()
	ctx, cancel := context.WithTimeout(ctx, warmWithin)
	defer cancel()
	if err := s.checks.reachable(ctx, j.Rollout); err != nil {
		return // the checks that come next say so
	}
	next := &j.Rollout.Next
	at, err := s.checks.router.listening(ctx, next.App, next.Environment)
	if err != nil {
		return
	}
	declared, probes := s.questions(j)
	var roles sync.WaitGroup
	for _, role := range webRoles(next) {
		instances := len(at[next.ID+"/"+role])
		url := s.checks.router.checksURL(next.App, next.Environment, role)
		list := append(ofRole(declared, role), ofRole(probes, role)...)
		if instances == 0 || url == "" || len(list) == 0 {
			continue
		}
		roles.Go(func() { warm(ctx, targetOf(next, role, url), list, instances) })
	}
	roles.Wait()
}

// warm asks one role, a few requests at once, and forgets the answers.
func warm(ctx context.Context, t check.Target, list []question, instances int) {
	transport := &http.Transport{MaxIdleConnsPerHost: warmAtOnce, MaxResponseHeaderBytes: 64 << 10}
	defer transport.CloseIdleConnections()
	each := check.Runner{Parallel: min(2*instances, warmAtOnce)}
	each.Each(warmEach*instances, func(i int) {
		if ctx.Err() != nil {
			return
		}
		one, cancel := context.WithTimeout(ctx, warmOne)
		defer cancel()
		req, err := list[i%len(list)].http.Request(one, t)
		if err != nil {
			return
		}
		if resp, err := transport.RoundTrip(req); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, loadBody))
			_ = resp.Body.Close()
		}
	})
}

func ofRole(list []question, role string) []question {
	var out []question
	for _, q := range list {
		if q.role == role {
			out = append(out, q)
		}
	}
	return out
}

// Load sends requests through the public routes of the environment until stop is called.
func (s *synthetic) Load(ctx context.Context, j delivery.CheckJob, perSecond int) func() delivery.Load {
	j.Rollout = j.Rollout.View()
	next := &j.Rollout.Next
	list, probes := s.questions(j)
	if len(list) == 0 {
		list = probes
	}
	if roles := webRoles(next); len(list) == 0 && len(roles) > 0 {
		list = []question{{roles[0], check.HTTP{Path: "/"}}}
	}
	l := &load{
		health: s.health, mask: &check.Runner{Mask: s.checks.runner.masker(releasesOf(j.Rollout)...).String},
		perSecond: max(1, perSecond), secure: map[string]bool{},
	}
	for _, q := range list {
		t := targetOf(next, q.role, "")
		if t.Host != "" {
			t.Host = strings.Replace(t.Host, "*.", "belay.", 1)
			l.list = append(l.list, visit{q.http, t})
		}
	}
	over := s.checks.numbers.loading(next.App, next.Environment)
	context.AfterFunc(ctx, over)
	stop := l.start(ctx)
	return func() delivery.Load { defer over(); return stop() }
}

// Flows runs each flow of the file once against next, some at once.
func (s *synthetic) Flows(ctx context.Context, j delivery.CheckJob) []delivery.Flow {
	j.Rollout = j.Rollout.View()
	var flows []check.Check
	for _, k := range s.checks.declared(j) {
		if k.HTTP != nil || k.Run != "" {
			flows = append(flows, k)
		}
	}
	if len(flows) == 0 {
		return nil
	}
	if err := s.checks.reachable(ctx, j.Rollout); err != nil {
		return failedFlows(flows, err)
	}
	runner := s.checks.checker(j)
	results := make([]delivery.Flow, len(flows))
	runner.Each(len(flows), func(i int) { results[i] = s.flow(ctx, runner, j, flows[i]) })
	return results
}

func failedFlows(flows []check.Check, err error) []delivery.Flow {
	var list []delivery.Flow
	for _, k := range flows {
		list = append(list, delivery.Flow{Name: k.Name, Critical: k.Critical, Failed: true, Shared: true, Message: err.Error()})
	}
	return list
}

// flow takes one look at next, a second one at once when it was red, and one at stable when both were.
func (s *synthetic) flow(ctx context.Context, runner *check.Runner, j delivery.CheckJob, k check.Check) delivery.Flow {
	f := delivery.Flow{Name: k.Name, Critical: k.Critical}
	target := s.checks.target(ctx, j, k.Role)
	once := runner.One(ctx, k, target)
	f.Message = once.Message
	if once.State != check.Failed {
		return f
	}
	again := runner.One(ctx, k, target)
	if again.State != check.Failed {
		f.Message = "red once, then " + again.Message + "; the first: " + once.Message
		return f
	}
	f.Failed, f.Message = true, again.Message
	if ctx.Err() != nil {
		f.Shared = true // cut off by whoever asked: it says nothing about next
		return f
	}
	stable, ok := s.stable(ctx, j.Rollout, k.Role)
	if !ok {
		return f
	}
	control := runner.One(ctx, k, stable)
	if f.Shared = control.State == check.Failed && alike(again, control); f.Shared {
		f.Message += "; stable fails, too: " + control.Message
	} else {
		f.Message += "; stable: " + control.Message
	}
	return f
}

// stable is the role on the stable release, asked directly: no listener of its own reaches it.
func (s *synthetic) stable(ctx context.Context, r *rollout.Rollout, role string) (check.Target, bool) {
	if r.Stable == nil {
		return check.Target{}, false
	}
	url := s.checks.instanceURL(ctx, r.Stable, role)
	return targetOf(r.Stable, role, url), url != ""
}

// alike reports whether two failures may have one cause. What stable does not have yet, and answers with 404, is no excuse
// for a 500 of next.
func alike(next, stable check.Result) bool {
	broken := func(r check.Result) bool { return r.Status == 0 || r.Status >= http.StatusInternalServerError }
	return broken(next) && broken(stable) || next.Status == stable.Status
}
