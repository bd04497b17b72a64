// Package scrape collects what the instances tell about themselves in the Prometheus text format, and what the kernel
// tells about their processes. Whatever an app exposes, it costs the daemon a bounded amount of memory and time.
package scrape

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Every is the time between two scrapes of an instance.
const Every = 5 * time.Second

// timeout bounds one scrape.
const timeout = 2 * time.Second

// The series that Belay itself measures of an instance. An app's own of that beginning are dropped.
const (
	reserved = "belay_process_"
	// CPUSeconds counts the CPU time of the instance's processes in seconds: its rate is cores.
	CPUSeconds = reserved + "cpu_seconds_total"
	// MemoryBytes is the resident memory of the instance's processes. Pages that they share count once for each.
	MemoryBytes = reserved + "memory_bytes"
)

// Source is one instance to collect from.
type Source struct {
	Instance domain.InstanceID
	URL      string // http://host:port/path; "": it exposes nothing
	PID      int    // root of its process tree; 0: not known
	// Metrics names what is kept; a histogram by its own name or by that of a part. nil keeps everything.
	Metrics []string
}

func (s Source) same(o Source) bool {
	return s.URL == o.URL && s.PID == o.PID && slices.Equal(s.Metrics, o.Metrics) && (s.Metrics == nil) == (o.Metrics == nil)
}

// Status is the latest scrape of a source.
type Status struct {
	Instance domain.InstanceID `json:"instance"`
	At       time.Time         `json:"at"`
	OK       bool              `json:"ok"`
	Series   int               `json:"series"`            // that were kept
	Message  string            `json:"message,omitempty"` // why nothing was
}

// Scraper collects from its sources, each on its own clock: a slow one delays no other.
type Scraper struct {
	samples *Samples
	every   time.Duration
	changed chan struct{}

	mu      sync.Mutex
	sources map[domain.InstanceID]Source
	status  map[domain.InstanceID]Status
}

// New makes a scraper that stores into samples. every 0 means Every.
func New(samples *Samples, every time.Duration) *Scraper {
	if every <= 0 {
		every = Every
	}
	return &Scraper{
		samples: samples, every: every, changed: make(chan struct{}, 1),
		sources: map[domain.InstanceID]Source{}, status: map[domain.InstanceID]Status{},
	}
}

// Set replaces the sources. It may be called at any time and as often as one likes with the same; what was collected from
// a source that is gone stays until it is too old.
func (s *Scraper) Set(sources []Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = make(map[domain.InstanceID]Source, len(sources))
	for _, src := range sources {
		src.Metrics = slices.Clone(src.Metrics)
		s.sources[src.Instance] = src
	}
	for id := range s.status {
		if _, ok := s.sources[id]; !ok {
			delete(s.status, id)
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Status returns the latest scrape of each present source that has a URL and was scraped, by instance.
func (s *Scraper) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.status))
	for _, st := range s.status {
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b Status) int {
		return compareIDs(a.Instance, b.Instance)
	})
	return list
}

// running is one source that is being scraped.
type running struct {
	source Source
	stop   context.CancelFunc
}

// Run collects until ctx ends, and returns when all its work has. It is called once.
func (s *Scraper) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	active := map[domain.InstanceID]running{}
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		s.reconcile(ctx, active, &work)
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		case now := <-tick.C:
			s.processes(now)
			s.samples.forget(now)
		}
	}
}

// reconcile starts and stops sources until active is what was last set.
func (s *Scraper) reconcile(ctx context.Context, active map[domain.InstanceID]running, work *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range active {
		if src, ok := s.sources[id]; !ok || !src.same(r.source) {
			r.stop()
			delete(active, id)
		}
	}
	for id, src := range s.sources {
		if _, ok := active[id]; ok || src.URL == "" {
			continue
		}
		sctx, stop := context.WithCancel(ctx)
		active[id] = running{src, stop}
		work.Go(func() { s.loop(sctx, src) })
	}
}

func (s *Scraper) loop(ctx context.Context, src Source) {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}
	defer transport.CloseIdleConnections()
	var want map[string]bool
	if src.Metrics != nil {
		want = make(map[string]bool, len(src.Metrics))
		for _, name := range src.Metrics {
			want[name] = true
		}
	}
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		st := Status{Instance: src.Instance, At: time.Now().UTC()}
		n, err := s.scrape(ctx, transport, src, want)
		if ctx.Err() != nil {
			return
		}
		if st.Series, st.OK = n, err == nil; err != nil {
			st.Message = err.Error()
		}
		s.mu.Lock()
		if cur, ok := s.sources[src.Instance]; ok && cur.same(src) {
			s.status[src.Instance] = st
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Scraper) scrape(ctx context.Context, transport *http.Transport, src Source, want map[string]bool) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not complete within %s", timeout))
	defer cancel()
	at := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src.URL, nil)
	if err != nil {
		return 0, fmt.Errorf("scrape %s: %w", src.URL, err)
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	req.Header.Set("User-Agent", "belay-scrape")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, because(ctx, src.URL, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("scrape %s: expected 200, got %d", src.URL, resp.StatusCode)
	}
	samples, err := parse(resp.Body, want, s.samples.limits.InstanceSeries)
	if err != nil {
		return 0, because(ctx, src.URL, err)
	}
	if err := s.samples.add(src.Instance, at, samples, false); err != nil {
		return 0, because(ctx, src.URL, err)
	}
	return len(samples), nil
}

func because(ctx context.Context, url string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("scrape %s: %w", url, err)
}

// processes measures all instances from one look at the process table.
func (s *Scraper) processes(at time.Time) {
	s.mu.Lock()
	sources := make([]Source, 0, len(s.sources))
	for _, src := range s.sources {
		if src.PID > 0 {
			sources = append(sources, src)
		}
	}
	s.mu.Unlock()
	if len(sources) == 0 {
		return
	}
	table, err := ReadTable("/proc")
	if err != nil {
		return // the series has a hole, which whoever reads it sees
	}
	for _, src := range sources {
		if u, ok := table.Tree(src.PID); ok {
			_ = s.samples.add(src.Instance, at, []sample{ // its own samples are never refused
				{name: CPUSeconds, value: u.CPU.Seconds()}, {name: MemoryBytes, value: float64(u.Memory)},
			}, true)
		}
	}
}
