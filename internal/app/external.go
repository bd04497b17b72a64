package app

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
)

// An app that ran before Belay and was taken over is a release like any other, but for one thing: Belay sends it traffic,
// and neither starts nor stops it. The runner answers for it in the driver's place.

const (
	externalEvery  = 2 * time.Second // between two probes
	externalAnswer = 2 * time.Second // time for one answer
	externalFailed = 2               // failures in a row make it unhealthy; a single one is noise
)

// externals are the running apps that were taken over. The zero value is ready.
type externals struct {
	mu    sync.Mutex
	known map[string]*external // by release
	find  func(ctx context.Context, release string) (domain.Release, error)
}

// external is one of them.
type external struct {
	rel    domain.Release
	probe  func(ctx context.Context) error
	listed bool // it counts as running: it was not retired
	status domain.InstanceStatus
}

// externalStore is where the releases stand that were taken over.
type externalStore interface {
	Slots(ctx context.Context) ([]domain.Slot, error)
	OpenRollouts(ctx context.Context) ([]domain.RolloutRecord, error)
	Release(ctx context.Context, id string) (domain.Release, error)
}

// Register makes the release of a running app known: from then on it is started, stopped and listed like any other. Once is
// as good as twice.
func (r *runner) Register(rel domain.Release) { r.external.register(rel, true) }

func (e *externals) register(rel domain.Release, listed bool) {
	if rel.External == "" || len(rel.Workloads) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known == nil {
		e.known = map[string]*external{}
	}
	if x, ok := e.known[rel.ID]; ok {
		x.listed = x.listed || listed
		return
	}
	w := rel.Workloads[0]
	e.known[rel.ID] = &external{
		rel: rel, probe: externalProbe(rel.External, w), listed: listed,
		status: domain.InstanceStatus{
			InstanceID: domain.InstanceID{App: rel.App, Environment: rel.Environment, Release: rel.ID, Role: w.Role},
			State:      domain.Starting, Addr: rel.External, Started: rel.Created,
		},
	}
}

// load registers what was taken over before this server began, and asks each once: those that a slot owns or an open
// rollout names. One that may be gone back to is looked up when it is.
func (e *externals) load(ctx context.Context, store externalStore) error {
	e.mu.Lock()
	e.find = store.Release
	e.mu.Unlock()
	slots, err := store.Slots(ctx)
	if err != nil {
		return err
	}
	open, err := store.OpenRollouts(ctx)
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, s := range slots {
		listed[s.Stable] = true
	}
	for _, r := range open {
		listed[r.Stable], listed[r.Next] = true, true
	}
	delete(listed, "")
	for id := range listed {
		rel, err := store.Release(ctx, id)
		if err != nil {
			return fmt.Errorf("release %s: %w", id, err)
		}
		e.register(rel, true)
	}
	e.look(ctx)
	return nil
}

// watch asks every running app again and again until ctx ends.
func (e *externals) watch(ctx context.Context) {
	every := time.NewTicker(externalEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			e.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// look asks each of them once, at the same time.
func (e *externals) look(ctx context.Context) {
	e.mu.Lock()
	var all []*external
	for _, x := range e.known {
		if x.listed {
			all = append(all, x)
		}
	}
	e.mu.Unlock()
	var asked sync.WaitGroup
	for _, x := range all {
		asked.Go(func() { _ = e.ask(ctx, x) }) // the answer stands in the status
	}
	asked.Wait()
}

// ask puts one question and notes the answer.
func (e *externals) ask(ctx context.Context, x *external) error {
	limited, cancel := context.WithTimeout(ctx, externalAnswer)
	defer cancel()
	err := x.probe(limited)
	if ctx.Err() != nil {
		return err // nobody waits for it any more: it says nothing about the app
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		x.status.State, x.status.Failed, x.status.Message = domain.Healthy, 0, ""
		return nil
	}
	x.status.Failed++
	x.status.Message = err.Error()
	if x.status.Failed >= externalFailed || x.status.State != domain.Healthy {
		x.status.State = domain.Unhealthy
	}
	return err
}

// of returns the running app that a release is, nil when it is no such release.
func (e *externals) of(release string) *external {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known[release]
}

// lookUp does the same, and asks the store for one that was not known at the start.
func (e *externals) lookUp(ctx context.Context, inst domain.Instance) *external {
	e.mu.Lock()
	find := e.find
	e.mu.Unlock()
	if x := e.of(inst.Release); x != nil || inst.Digest != "" || find == nil {
		return x
	}
	rel, err := find(ctx, inst.Release)
	if err != nil {
		return nil // it is no release of a running app; the driver says what is wrong with it
	}
	e.register(rel, false)
	return e.of(inst.Release)
}

// start returns when the app answers. It is asked for as long as an instance of its own would have to start.
func (e *externals) start(ctx context.Context, x *external) (domain.InstanceStatus, error) {
	e.mu.Lock()
	if !x.listed {
		// Another life of it: what knew the one before must not take this one for it.
		x.listed, x.status.Started = true, time.Now().UTC()
		x.status.State, x.status.Failed = domain.Starting, 0
	}
	w := x.rel.Workloads[0]
	e.mu.Unlock()
	within := cmp.Or(w.Probe.StartWithin, time.Minute)
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	again := time.NewTicker(externalEvery / 10)
	defer again.Stop()
	for {
		err := e.ask(ctx, x)
		if err == nil {
			return e.statusOf(x), nil
		}
		select {
		case <-again.C:
		case <-limited.Done():
			status := e.statusOf(x)
			silent := domain.Errorf(domain.Failed, "the app at %s does not answer: %s", x.rel.External, cmp.Or(status.Message, err.Error())).
				WithHint("belay does not start this app: start it as it was started before")
			silent.Cause = context.Cause(limited)
			return status, silent
		}
	}
}

func (e *externals) statusOf(x *external) domain.InstanceStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	return x.status
}

// Start returns when the instance is healthy. An app that was taken over is only asked.
func (r *runner) Start(ctx context.Context, inst domain.Instance) (domain.InstanceStatus, error) {
	if x := r.external.lookUp(ctx, inst); x != nil {
		return r.external.start(ctx, x)
	}
	return r.Driver.Start(ctx, inst)
}

// Stop ends an instance for good. An app that was taken over gets no more traffic; its process is never touched.
func (r *runner) Stop(ctx context.Context, id domain.InstanceID) error {
	x := r.external.of(id.Release)
	if x == nil {
		return r.Driver.Stop(ctx, id)
	}
	r.external.mu.Lock()
	defer r.external.mu.Unlock()
	x.listed = false
	return nil
}

// List returns the instances of an app in an environment that run or should run, apps that were taken over among them.
func (r *runner) List(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error) {
	list, err := r.Driver.List(ctx, app, env)
	r.external.mu.Lock()
	defer r.external.mu.Unlock()
	before := len(list)
	for _, x := range r.external.known {
		if x.listed && x.rel.App == app && x.rel.Environment == env {
			list = append(list, x.status)
		}
	}
	slices.SortFunc(list[before:], func(a, b domain.InstanceStatus) int { return strings.Compare(a.Release, b.Release) })
	return list, err
}

// Prepare makes an artifact local. An app that was taken over has none.
func (r *runner) Prepare(ctx context.Context, digest string) error {
	if digest == "" {
		return nil
	}
	return r.Driver.Prepare(ctx, digest)
}

// externalProbe is how a running app is asked: the path of its probe, whose answer may be anything but a failure of the app
// (it was not made for Belay), or whether it takes a connection.
func externalProbe(addr string, w domain.Workload) func(ctx context.Context) error {
	if w.Probe.HTTP == "" {
		return func(ctx context.Context) error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return process.Cause(ctx, err)
			}
			return conn.Close()
		}
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+w.Probe.HTTP, nil)
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", "belay-probe")
		if len(w.Hosts) > 0 && !strings.Contains(w.Hosts[0], "*") {
			req.Host = w.Hosts[0] // frameworks refuse a host that is not theirs
		}
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("GET %s: %w", w.Probe.HTTP, process.Cause(ctx, err))
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("GET %s: %s", w.Probe.HTTP, resp.Status)
		}
		return nil
	}
}

// Address returns host:port of the URL of a running app. It refuses what cannot be taken over: anything but plain HTTP, an
// address that is neither of this machine nor of its private network, and this server's own listeners.
func (r *runner) Address(raw string) (string, error) {
	host, port, err := externalHost(raw)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), externalAnswer)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", domain.Errorf(domain.Invalid, "--from %s: no address is known for %s: %w", raw, host, err)
	}
	var at []netip.AddrPort
	for _, ip := range found {
		ip = ip.Unmap()
		if !ip.IsLoopback() && !ip.IsPrivate() {
			return "", domain.Errorf(domain.Invalid, "--from %s: %s is neither of this machine nor of a private network", raw, ip).
				WithHint("only an app that Belay's proxy reaches directly can be taken over: http://127.0.0.1:PORT")
		}
		addr := netip.AddrPortFrom(ip, port)
		if own := ownListener(addr, r.listeners); own != "" {
			return "", domain.Errorf(domain.Invalid, "--from %s: belay itself listens on %s", raw, own).
				WithHint("name the address of the app, not that of the proxy in front of it")
		}
		at = append(at, addr)
	}
	return answering(ctx, at).String(), nil
}

// answering returns the first of several addresses that takes a connection, the first when none does: localhost has two.
func answering(ctx context.Context, at []netip.AddrPort) netip.AddrPort {
	for _, addr := range at {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
		if err == nil {
			_ = conn.Close()
			return addr
		}
	}
	return at[0]
}

// externalHost takes a URL apart.
func externalHost(raw string) (host string, port uint16, err error) {
	refuse := func(why string) error {
		return domain.Errorf(domain.Invalid, "--from %s: %s", raw, why).WithHint("write it as http://127.0.0.1:3000")
	}
	u, perr := url.Parse(raw)
	switch {
	case perr != nil:
		return "", 0, refuse("it is no URL")
	case u.Scheme == "https":
		return "", 0, refuse("the proxy speaks plain http to apps; TLS ends at the proxy")
	case u.Scheme != "http" || u.Hostname() == "":
		return "", 0, refuse("it is no http URL")
	case u.User != nil:
		return "", 0, refuse("a user and a password have no place in it")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", 0, refuse("it names a page; the app as a whole is taken over")
	}
	n, perr := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16)
	if perr != nil || n == 0 {
		return "", 0, refuse("its port is not between 1 and 65535")
	}
	return u.Hostname(), uint16(n), nil
}

// ownListener returns the listener of this server that an address is, "" when it is none.
func ownListener(addr netip.AddrPort, listeners []string) string {
	for _, l := range listeners {
		host, port, err := net.SplitHostPort(l)
		if err != nil || port != strconv.Itoa(int(addr.Port())) {
			continue
		}
		ip, err := netip.ParseAddr(host)
		switch {
		case err == nil && !ip.IsUnspecified():
			if ip.Unmap() == addr.Addr() {
				return l
			}
		case host == "localhost":
			if addr.Addr().IsLoopback() {
				return l
			}
		case ofThisMachine(addr.Addr()): // every address of the machine, or a name of it
			return l
		}
	}
	return ""
}

func ofThisMachine(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true // better refused than taken in a circle
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap() == ip
	})
}
