package delivery

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
)

// Comparisons are what the app's own metrics, and what its processes use, say of both releases side by side.
type Comparisons interface {
	// Compare returns each metric as it was after from and up to to. It reports false while that is too short for the traffic
	// that there is: the same from is asked again with a later to.
	Compare(ctx context.Context, r *rollout.Rollout, f *config.File, from, to time.Time) ([]Compared, bool)
}

// Compared is one metric of both releases in one span.
type Compared struct {
	Name string
	// Good is which way is better; "" is drawn and never warned of.
	Good config.Good
	Unit string
	// Per says what both are reckoned for, behind the number: "an instance"; "" when they are as they are.
	Per string
	// Factor turns what one unit of a block did into the number that people know.
	Factor float64
	judge.Block
	// Why says why the metric cannot be compared; the rest is then empty.
	Why string
}

// comparison is one metric of one rollout up to now.
type comparison struct {
	judge.Pair `json:"pair"`
	Good       config.Good `json:"good,omitempty"`
	Unit       string      `json:"unit,omitempty"`
	Per        string      `json:"per,omitempty"`
	Factor     float64     `json:"factor"` // mean
	Why        string      `json:"why,omitempty"`
	Warning    string      `json:"warning,omitempty"`
}

// comparing holds the comparisons of a delivery's rollouts, by rollout and metric.
type comparing struct {
	mu   sync.Mutex
	list map[string]map[string]*comparison
}

// watchMetrics compares the metrics of both releases until the returned function is called. What it finds is told once and
// changes nothing else: it neither holds nor rolls back, and an error of its own stops nothing.
func (s *Service) watchMetrics(ctx context.Context, r *run, roll *rollout.Rollout) (stop func()) {
	if s.ports.Comparisons == nil || r == nil || roll.Stable == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		defer func() { // a defect here ends no rollout
			if why := recover(); why != nil {
				s.options.Log.Error("a defect stopped the comparison of metrics", "rollout", roll.Record.ID, "why", why, "stack", string(debug.Stack()))
			}
		}()
		s.compareMetrics(ctx, r, roll)
	})
	return func() { cancel(); done.Wait() }
}

func (s *Service) compareMetrics(ctx context.Context, r *run, roll *rollout.Rollout) {
	r.metrics.begin(ctx, r, roll.Record.ID)
	block, from := config.WarnBlock, time.Now().Add(2*config.MetricsEvery)
	if s.options.Demo {
		block = config.MetricsEvery
	} else if shifted := roll.View().Record.Shifted; shifted != nil && shifted.Add(config.WarmUp).After(from) {
		from = shifted.Add(config.WarmUp)
	}
	every := time.NewTicker(config.MetricsEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		now := time.Now()
		if now.Sub(from) < block-config.MetricsEvery/2 { // the clock of looks is not that of blocks
			continue
		}
		list, enough := s.ports.Comparisons.Compare(ctx, roll.View(), r.file, from, now)
		if ctx.Err() != nil {
			return
		}
		if enough {
			s.warn(ctx, r, roll, r.metrics.add(roll.Record.ID, list))
			if err := r.remember(ctx, compareKey+roll.Record.ID, r.metrics.of(roll.Record.ID)); err != nil && ctx.Err() == nil {
				s.options.Log.Error("keep the comparison of metrics", "rollout", roll.Record.ID, "error", err)
			}
		}
		if enough || now.Sub(from) > config.WarnLongest {
			from = now
		}
	}
}

// compareKey names what is stored of a rollout's metrics.
const compareKey = "metrics "

// warn tells of each metric that has become worse for sure.
func (s *Service) warn(ctx context.Context, r *run, roll *rollout.Rollout, worse []warned) {
	for _, w := range worse {
		r.update(ctx, func(d *domain.Delivery) {
			row := slices.IndexFunc(d.Stages, func(row domain.StageRecord) bool {
				return row.State == domain.Running || row.State == domain.WaitingState
			})
			if row >= 0 {
				d.Stages[row].Notes = append(slices.Clone(d.Stages[row].Notes), w.sentence)
			}
		})
		data := map[string]any{"sentence": w.sentence, "metric": w.metric, "next": w.shown.Next, "stable": w.shown.Stable}
		if w.shown.Change != nil {
			data["change"], data["low"], data["high"] = *w.shown.Change, *w.shown.Low, *w.shown.High
		}
		s.emit(ctx, domain.Event{Type: "rollout.warning", App: roll.Record.App, Delivery: roll.Record.Delivery, By: "judge",
			Environment: roll.Record.Environment, Data: data})
	}
}

// warned is a metric that has just become worse for sure.
type warned struct {
	metric, sentence string
	shown            domain.Comparison
}

// begin goes on with what an earlier watch, or an earlier life of the process, compared.
func (c *comparing) begin(ctx context.Context, r *run, rollout string) {
	if c.of(rollout) != nil {
		return
	}
	stored := map[string]*comparison{}
	if found, err := r.recall(ctx, compareKey+rollout, &stored); err != nil || !found {
		stored = map[string]*comparison{} // what cannot be read begins again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list == nil {
		c.list = map[string]map[string]*comparison{}
	}
	c.list[rollout] = stored
}

// of returns a copy of a rollout's comparisons; nil before begin.
func (c *comparing) of(rollout string) map[string]comparison {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list[rollout] == nil {
		return nil
	}
	out := make(map[string]comparison, len(c.list[rollout]))
	for name, k := range c.list[rollout] {
		out[name] = *k
	}
	return out
}

// add takes in one span, and returns what became worse for sure by it.
func (c *comparing) add(rollout string, list []Compared) (worse []warned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range list {
		k := c.list[rollout][m.Name]
		if k == nil {
			k = &comparison{Pair: *judge.NewPair(config.WarnAlpha, config.WarnTuned, config.WarnLeast)}
			c.list[rollout][m.Name] = k
		}
		k.Good, k.Unit, k.Why = m.Good, m.Unit, m.Why
		if m.Why != "" {
			continue
		}
		k.Per = m.Per
		before := k.N
		if k.Compare(m.Block); k.N > before {
			k.Factor += (m.Factor - k.Factor) / float64(k.N)
		}
		if k.Good == "" || k.Warning != "" || !k.Read().Worse(k.Good == "up", config.WarnGrain) {
			continue
		}
		shown := k.shown(m.Name)
		k.Warning = warnSentence(shown)
		worse = append(worse, warned{m.Name, k.Warning, shown})
	}
	return worse
}

// shown is a comparison as people see it.
func (k *comparison) shown(name string) domain.Comparison {
	read := k.Read()
	out := domain.Comparison{Metric: name, Good: string(k.Good), Unit: k.Unit, Per: k.Per, Blocks: read.Blocks, Note: k.Why, Warning: k.Warning,
		Next: read.Next * k.Factor, Stable: read.Stable * k.Factor}
	if change, ok := read.Relative(read.Diff); ok && read.Blocks > 0 {
		out.Change = &change
		if read.Known {
			low, _ := read.Relative(read.Low)
			high, _ := read.Relative(read.High)
			out.Low, out.High = &low, &high
		}
	}
	return out
}

// metricsOf lists the comparisons of a rollout for people, by name.
func (r *run) metricsOf(roll *rollout.Rollout) (list []domain.Comparison) {
	all := r.metrics.of(roll.Record.ID)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		k := all[name]
		if k.N > 0 || k.Why != "" {
			list = append(list, k.shown(name))
		}
	}
	return list
}

// warnings tells, at the end of an outcome, what was warned of; "" when nothing was.
func (r *run) warnings() string {
	roll := r.rolloutIn(domain.Production)
	if roll == nil {
		return ""
	}
	var list []string
	for _, c := range r.metricsOf(roll) {
		if c.Warning != "" {
			list = append(list, strings.TrimSuffix(c.Warning, warnOnly))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ". Warned of " + strings.Join(list, "; ")
}

const warnOnly = ": it does not roll back by itself"

// warnSentence says by how much next is worse.
func warnSentence(c domain.Comparison) string {
	said := fmt.Sprintf("%s: %s on next, %s on stable", c.Metric, domain.Quantity(c.Next, c.Unit), domain.Quantity(c.Stable, c.Unit))
	if c.Per != "" {
		said = fmt.Sprintf("%s: %s %s on next, %s on stable", c.Metric, domain.Quantity(c.Next, c.Unit), c.Per, domain.Quantity(c.Stable, c.Unit))
	}
	if c.Change != nil && c.Low != nil && c.High != nil {
		said += fmt.Sprintf(", %s %% (95 %% %s … %s %%)", signed(*c.Change), signed(*c.Low), signed(*c.High))
	}
	return said + warnOnly
}

// signed writes a fraction in percent, with its sign.
func signed(f float64) string {
	return strings.ReplaceAll(fmt.Sprintf("%+.0f", f*100), "-", "−")
}
