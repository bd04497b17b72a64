package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sample"
	"github.com/belay-cd/belay/internal/scrape"
	"github.com/belay-cd/belay/internal/store"
)

var strict = judge.Config{Alpha: 0.001, Beta: 0.05, Ratio: 1.25, Floor: 0.001, Margin: 1.2, Grain: 5 * time.Millisecond, Limit: 0.2, Minutes: 15}

// ledger is a store that notes what it took. It may refuse, or take something and fail to say so; and it tells when a
// write begins and when it ends.
type ledger struct {
	*store.Store
	full, mute    bool
	before, after func()
	took          []measure.Tick
}

func (l *ledger) SaveCheckpoint(ctx context.Context, c store.Checkpoint) error {
	if l.full {
		return errors.New("the disk is full")
	}
	if l.before != nil {
		l.before()
	}
	err := l.Store.SaveCheckpoint(ctx, c)
	if err == nil {
		l.took = append(l.took, c.Ticks...)
	}
	if l.after != nil {
		l.after()
	}
	if l.mute {
		return errors.New("did it?")
	}
	return err
}

// machine is a machine with some rollouts, a proxy that counts, and a server that comes and goes.
type machine struct {
	t        *testing.T
	dice     *rand.Rand
	path     string
	rollouts []domain.RolloutRecord
	// The proxy: it keeps its newest ticks.
	boot string
	n    int64
	held []measure.Tick
	lost map[string]bool
	all  []measure.Tick
	// The server; nil while it is away.
	disk  *ledger
	book  *sample.Book
	keep  *keeper
	taken []measure.Tick // by all servers
}

// heldMost is how many ticks the proxy keeps: few, so that some are lost while nobody asks.
const heldMost = 12

func newMachine(t *testing.T, seed uint64) *machine {
	t.Helper()
	m := &machine{t: t, dice: rand.New(rand.NewPCG(seed, 7)), path: filepath.Join(t.TempDir(), "belay.db"), boot: "life 0", lost: map[string]bool{}}
	s := m.open()
	defer func() { _ = s.Close() }()
	for i := range 3 {
		app := fmt.Sprintf("shop%d", i)
		rec, err := s.OpenRollout(t.Context(), domain.RolloutRecord{ID: fmt.Sprintf("rol_%d", i), App: app, Environment: domain.Production,
			State: domain.RolloutOpen, Started: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		m.rollouts = append(m.rollouts, rec)
	}
	return m
}

func (m *machine) open() *store.Store {
	m.t.Helper()
	s, err := store.Open(m.t.Context(), m.path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// start brings a server up. It knows what is on the disk.
func (m *machine) start() {
	m.disk = &ledger{Store: m.open()}
	m.book, m.keep = sample.NewBook(), newKeeper(m.disk, slog.New(slog.DiscardHandler))
}

// stop ends the server, in good order or not.
func (m *machine) stop(orderly bool) {
	if orderly {
		m.disk.full, m.disk.mute = false, false
		if err := m.keep.close(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := m.disk.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.taken = append(m.taken, m.disk.took...)
	waiting := m.keep.waiting
	m.keep = nil
	m.forget(slices.DeleteFunc(waiting, func(t measure.Tick) bool { // the next server takes it from the proxy
		return slices.ContainsFunc(m.held, func(h measure.Tick) bool { return key(h) == key(t) })
	}))
}

// count is one second of the proxy.
func (m *machine) count() {
	m.n++
	tick := measure.Tick{Boot: m.boot, N: m.n, At: time.Now().UTC().Round(0)}
	for i, r := range m.rollouts {
		if m.dice.IntN(6) > 0 {
			tick.Series = append(tick.Series, m.series(i, r)...)
		}
	}
	m.held = append(m.held, tick)
	m.all = append(m.all, tick)
	if over := len(m.held) - heldMost; over > 0 {
		m.forget(m.held[:over])
		m.held = m.held[over:]
	}
}

// series is what one rollout served: by request, by visitor, and under a weight that changes.
func (m *machine) series(i int, r domain.RolloutRecord) (list []measure.Series) {
	latency := func(n int64) *measure.Histogram {
		h := &measure.Histogram{}
		for range n {
			h.Add(time.Duration((8 + m.dice.ExpFloat64()*20) * float64(time.Millisecond)))
		}
		return h
	}
	weight := 500
	if i == 2 && m.n > 20 {
		weight = 2500
	}
	for _, side := range []domain.Side{domain.Stable, domain.Next} {
		n := map[domain.Side]int64{domain.Stable: 40, domain.Next: 2}[side]
		s := measure.Series{App: r.App, Environment: r.Environment, Role: "web", Rollout: r.ID, Release: string(side), Side: side,
			Weight: weight, Requests: n, Latency: latency(n), Drawn: n, Cold: m.n < 3, Errors: m.dice.Int64N(2) * m.dice.Int64N(2)}
		if side == domain.Stable {
			s.Placebo = &measure.Units{Drawn: 2, Latency: latency(2)}
		}
		part := s
		part.Endpoint, part.Drawn, part.Placebo, part.Cold = "GET /cart", 0, nil, false
		if i == 1 {
			s.Drawn, s.Units, part.Units = n/2, &measure.Units{Errors: s.Errors, Latency: latency(n / 2)}, &measure.Units{}
		}
		list = append(list, s, part)
	}
	return list
}

func key(t measure.Tick) string { return fmt.Sprintf("%s %d", t.Boot, t.N) }

// forget notes what the proxy does not keep any more and no store has.
func (m *machine) forget(gone []measure.Tick) {
	have := map[string]bool{}
	for _, t := range m.taken {
		have[key(t)] = true
	}
	if m.keep != nil {
		for _, list := range [][]measure.Tick{m.disk.took, m.keep.waiting} {
			for _, t := range list {
				have[key(t)] = true
			}
		}
	}
	for _, t := range gone {
		m.lost[key(t)] = !have[key(t)]
	}
}

// pull is one page of the collector.
func (m *machine) pull() {
	last, most := m.book.Last(m.boot), 1+m.dice.IntN(5)
	var page []measure.Tick
	for _, t := range m.held {
		if t.N > last && len(page) < most {
			page = append(page, t)
		}
	}
	m.keep.add(m.book.Add(page...))
}

func (m *machine) seat(r domain.RolloutRecord) {
	m.t.Helper()
	if err := m.keep.seat(m.t.Context(), r, strict); err != nil {
		m.t.Fatal(err)
	}
}

// second is one second in which something happens or not.
func (m *machine) second() {
	m.count()
	switch roll := m.dice.IntN(100); {
	case m.keep == nil:
		if roll < 30 {
			m.start()
		}
		return
	case roll < 5:
		m.stop(false)
		return
	case roll < 8:
		m.stop(true)
		return
	case roll < 12: // the proxy begins another life; what nobody took is gone
		m.forget(m.held)
		m.held, m.n, m.boot = nil, 0, fmt.Sprintf("life %d", len(m.all))
	case roll < 20:
		m.disk.full = !m.disk.full
	case roll < 28:
		m.disk.mute = !m.disk.mute
	}
	for _, r := range m.rollouts {
		if m.dice.IntN(3) == 0 {
			m.seat(r)
		}
	}
	if m.dice.IntN(5) > 0 {
		m.pull()
	}
	if m.dice.IntN(4) > 0 {
		m.write()
	}
}

// write is a turn of the store. While it takes, the proxy counts, judges hear it, one sits down again, and a verdict is
// reached again.
func (m *machine) write() {
	meanwhile := func() {
		m.count()
		m.pull()
		r := m.rollouts[m.dice.IntN(len(m.rollouts))]
		m.seat(r)
		said, _ := m.keep.jury.Verdict(r.ID)
		m.keep.jury.Leave(r.ID)
		m.seat(r)
		if again, _ := m.keep.jury.Verdict(r.ID); !reflect.DeepEqual(again, said) {
			m.t.Errorf("seated again during a write: %+v\nwant %+v", again, said)
		}
		if said.Boot == "" {
			return
		}
		if again, _, err := m.keep.replay(m.t.Context(), r, strict, said); err != nil || !reflect.DeepEqual(again, said) {
			m.t.Errorf("replayed during a write, %v: %+v\nwant %+v", err, again, said)
		}
	}
	switch m.dice.IntN(3) {
	case 0:
		m.disk.before = meanwhile
	case 1:
		m.disk.after = meanwhile
	}
	if err := m.keep.turn(m.t.Context()); err != nil && !m.disk.full && !m.disk.mute {
		m.t.Error(err)
	}
	m.disk.before, m.disk.after = nil, nil
}

// Servers and proxies die at any moment: the evidence is the same, bit for bit, as if none of them had, but for the seconds that nobody ever
// took from a proxy that died. And the stored ticks lead to the same verdict again.
func TestEvidenceOutlivesServers(t *testing.T) {
	for seed := range uint64(5) {
		m := newMachine(t, seed)
		m.start()
		for range 120 {
			m.second()
		}
		if m.keep == nil {
			m.start()
		}
		for _, r := range m.rollouts {
			m.seat(r)
		}
		for range heldMost {
			m.pull()
		}
		m.stop(true)
		m.check()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// check compares with a jury that sat all the time.
func (m *machine) check() {
	t := m.t
	taken := map[string]bool{}
	for _, tick := range m.taken {
		taken[key(tick)] = true
	}
	calm := sample.NewJury()
	for _, r := range m.rollouts {
		if err := calm.Seat(r.ID, strict, nil); err != nil {
			t.Fatal(err)
		}
	}
	lost := 0
	for _, tick := range m.all {
		switch has := taken[key(tick)]; {
		case has:
			calm.Add([]measure.Tick{tick})
		case m.lost[key(tick)]:
			lost++
		case len(tick.Series) > 0:
			t.Errorf("%s is not stored", key(tick))
		}
	}
	want, err := calm.Checkpoints(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	defer func() { _ = m.disk.Close() }()
	for _, r := range m.rollouts {
		m.seat(r)
		said, _ := calm.Verdict(r.ID)
		if again, _ := m.keep.jury.Verdict(r.ID); !reflect.DeepEqual(again, said) {
			t.Errorf("%s: %+v\nwant %+v", r.ID, again, said)
		}
		if again, heard, err := m.keep.replay(t.Context(), r, strict, said); err != nil || heard < 40 || !reflect.DeepEqual(again, said) {
			t.Errorf("%s again, from %d ticks, %v: %+v\nwant %+v", r.ID, heard, err, again, said)
		}
	}
	saveAll(t, m.keep) // who heard something since he was stored last
	for _, r := range m.rollouts {
		if known, _, err := m.disk.JudgeOf(t.Context(), r.ID); err != nil || string(known) != string(want[r.ID]) {
			t.Errorf("%s: another evidence, %v", r.ID, err)
		}
	}
	if lost == len(m.all) || len(taken) < 60 {
		t.Errorf("%d of %d ticks were taken", len(taken), len(m.all))
	}
}

// A judge who cannot go on where he was hears everything again; where that cannot be had either, the rollout holds.
func TestEvidenceIsNeverForgotten(t *testing.T) {
	m := newMachine(t, 1)
	m.start()
	r := m.rollouts[0]
	m.seat(r)
	for range 40 {
		m.count()
		m.pull()
	}
	m.stop(true)
	want, _ := m.seatAgain(r).jury.Verdict(r.ID)
	m.stop(false)
	for name, broken := range map[string][]byte{"unreadable": {0xff, 1, 2}, "empty": {}} {
		m.start()
		if err := m.disk.SaveCheckpoint(t.Context(), store.Checkpoint{Judges: map[string][]byte{r.ID: broken}}); err != nil {
			t.Fatal(err)
		}
		m.seat(r)
		if got, _ := m.keep.jury.Verdict(r.ID); !reflect.DeepEqual(got, want) || got.Next.Requests == 0 {
			t.Errorf("%s: %+v\nwant %+v", name, got, want)
		}
		m.stop(false)
	}
	m.start()
	_ = m.disk.Close() // nothing can be read
	g := newGuarded(t)
	g.roll.Record.ID, g.m.judges = r.ID, m.keep
	s := g.m.watched(g.roll.View(), g.roll)
	g.tick(time.Now(), 10)
	if h := g.history(t, s, time.Now()); h.Evidence != nil {
		t.Errorf("nobody was asked: %+v", h.Evidence)
	}
	s.judged = strict
	if h := g.history(t, s, time.Now()); h.Evidence == nil || h.Evidence.Decision != judge.Hold || !strings.Contains(h.Evidence.Sentence, "cannot be read") {
		t.Errorf("%+v", h.Evidence)
	}
}

// saveAll stores all that a keeper has.
func saveAll(tb testing.TB, k *keeper) {
	tb.Helper()
	for more := true; more; {
		var err error
		if more, err = k.save(tb.Context(), 0, 1); err != nil {
			tb.Fatal(err)
		}
	}
}

func (m *machine) seatAgain(r domain.RolloutRecord) *keeper {
	m.start()
	m.seat(r)
	return m.keep
}

// What the proxy draws and serves is what the judge hears, to the request, while the weight changes; and the guard hears him
// at once.
func TestTheJudgeHearsTheProxy(t *testing.T) {
	b := newBench(t)
	j := job(file(t, "rollout: { split: request }\n"), domain.Production)
	r := j.Rollout
	b.start(r.Stable, "web", 0, fine)
	b.split(rollout.Split{Stable: r.Stable})
	b.start(&r.Next, "web", 0, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	if err := b.judges.seat(t.Context(), r.Record, strict); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, weight := range []int{2000, 4000} {
		b.shift(j, weight)
		failed += b.ask("shop.example", 100)["500"]
	}
	m := &measurements{book: b.book, judges: b.judges, list: b.instances, scrape: scrape.NewSamples(scrape.Limits{})}
	s := m.watched(r.View(), r)
	s.judged = strict
	var v judge.Verdict
	eventually(t, "200 requests are heard", func() bool {
		h, err := s.History(t.Context(), time.Now(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		v = *h.Evidence
		return v.Next.Requests+v.Stable.Requests >= 200
	})
	if v.Next.Requests != int64(failed) || v.Next.Errors != int64(failed) || v.Stable.Requests != int64(200-failed) || v.Stable.Errors != 0 {
		t.Errorf("%d failed: %+v", failed, v)
	}
	if v.Decision != judge.RollBack || v.Metric != "errors" || v.Boot == "" {
		t.Errorf("%+v", v)
	}
}

// Ticks of a rollout that ended well are kept for two weeks: later nothing can be judged again, and that is said.
func TestReplaySaysWhatIsMissing(t *testing.T) {
	m := newMachine(t, 2)
	m.start()
	defer func() { _ = m.disk.Close() }()
	r := m.rollouts[0]
	m.seat(r)
	for range 10 {
		m.count()
		m.pull()
	}
	said, _ := m.keep.jury.Verdict(r.ID)
	if _, heard, err := m.keep.replay(t.Context(), r, strict, said); err != nil || heard == 0 {
		t.Errorf("%d, %v", heard, err)
	}
	whole := said
	said.N += 1000
	if _, _, err := m.keep.replay(t.Context(), r, strict, said); domain.CodeOf(err) != domain.NotFound || !strings.Contains(err.Error(), "not all ticks") {
		t.Error(err)
	}
	r.State, r.Started = domain.RolloutDone, time.Now().Add(-15*24*time.Hour)
	if _, _, err := m.keep.replay(t.Context(), r, strict, said); domain.CodeOf(err) != domain.NotFound || !strings.Contains(err.Error(), "14 days") {
		t.Error(err)
	}
	if _, _, err := m.keep.replay(t.Context(), r, strict, whole); err != nil { // decisive: kept for ever
		t.Error(err)
	}
	whole.Ticks++ // its first ones are gone
	if _, _, err := m.keep.replay(t.Context(), r, strict, whole); domain.CodeOf(err) != domain.NotFound || !strings.Contains(err.Error(), "14 days") {
		t.Error(err)
	}
	// What is over has no judge any more.
	now := time.Now()
	r.Ended = &now
	m.keep.jury.Leave(r.ID)
	if m.seat(r); m.keep.jury.Seated(r.ID) {
		t.Error("a judge of a rollout that is over")
	}
}
