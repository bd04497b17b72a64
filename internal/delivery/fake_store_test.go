package delivery

import (
	"context"
	"slices"
	"sync"

	"github.com/belay-cd/belay/internal/domain"
)

// memory is a Store that behaves as the real one: it gives out copies, refuses a second open rollout, stores an end and its
// slot at once, and answers nobody whose context has ended. It survives the lives of the process.
type memory struct {
	mu         sync.Mutex
	repository map[string]string
	deliveries []domain.Delivery
	unread     map[string]bool // deliveries, by their ids, that were written and not read since
	keys       map[string]int
	releases   []domain.Release
	slots      map[string]domain.Slot
	rollouts   []domain.RolloutRecord
	journal    map[string][]byte
	events     []domain.Event
	facts      []domain.Fact
	holds      map[string]domain.Hold
	freezes    map[string]domain.Freeze
	fail       func(what string) error // a fault of the disk, nil for none
}

func newMemory() *memory {
	return &memory{repository: map[string]string{}, unread: map[string]bool{}, keys: map[string]int{}, slots: map[string]domain.Slot{},
		journal: map[string][]byte{}, holds: map[string]domain.Hold{}, freezes: map[string]domain.Freeze{}}
}

// written returns all deliveries as a disk would have them. Most writes are followed by another one and not by a reader.
func (m *memory) written() []domain.Delivery {
	for i, d := range m.deliveries {
		if m.unread[d.ID] {
			m.deliveries[i] = deep(d)
		}
	}
	clear(m.unread)
	return m.deliveries
}

// storeOf is the store as one life of the process sees it.
type storeOf struct {
	*memory
	l *life
}

// write runs one transaction. What a process writes after its death is lost; a write that counts may be its last.
func (s storeOf) write(ctx context.Context, what string, f func() error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.l.dead.Load() {
		return errDead
	}
	s.mu.Lock()
	err := error(nil)
	if s.fail != nil {
		err = s.fail(what)
	}
	if err == nil {
		err = f()
	}
	s.mu.Unlock()
	if err == nil && what != "event" && what != "delivery" {
		s.l.op("store " + what)
	}
	return err
}

func (s storeOf) EnsureApp(ctx context.Context, app, repository string) error {
	return s.write(ctx, "app", func() error { s.repository[app] = repository; return nil })
}

func (s storeOf) Apps(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var apps []string
	for app := range s.repository {
		apps = append(apps, app)
	}
	slices.Sort(apps)
	return apps, nil
}

func (s storeOf) CreateDelivery(ctx context.Context, d domain.Delivery, key string) (stored domain.Delivery, created bool, err error) {
	err = s.write(ctx, "create", func() error {
		if n, ok := s.keys[d.App+key]; ok && key != "" {
			stored = deep(s.written()[n])
			return nil
		}
		d.Number = 1
		for _, other := range s.deliveries {
			if other.App == d.App {
				d.Number = max(d.Number, other.Number+1)
			}
		}
		s.keys[d.App+key] = len(s.deliveries)
		s.deliveries = append(s.deliveries, deep(d))
		stored, created = deep(d), true
		return nil
	})
	return stored, created, err
}

func (s storeOf) SaveDelivery(ctx context.Context, d domain.Delivery) error {
	return s.write(ctx, "delivery", func() error {
		for i := range s.deliveries {
			if s.deliveries[i].ID == d.ID {
				s.deliveries[i], s.unread[d.ID] = given(d), true
				return nil
			}
		}
		return domain.Errorf(domain.NotFound, "delivery %s/%d: not found", d.App, d.Number)
	})
}

func (s storeOf) Delivery(ctx context.Context, app string, number int) (domain.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return domain.Delivery{}, ctx.Err()
	}
	for _, d := range slices.Backward(s.written()) {
		if d.App == app && (number == 0 || d.Number == number) {
			return given(d), nil
		}
	}
	return domain.Delivery{}, domain.Errorf(domain.NotFound, "delivery %s/%d: not found", app, number)
}

func (s storeOf) Deliveries(ctx context.Context, app string, limit int) ([]domain.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []domain.Delivery
	for _, d := range slices.Backward(s.written()) {
		if d.App == app && (limit <= 0 || len(list) < limit) {
			list = append(list, given(d))
		}
	}
	return list, ctx.Err()
}

func (s storeOf) ActiveDeliveries(ctx context.Context) ([]domain.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []domain.Delivery
	for _, d := range s.written() {
		if !d.State.Final() {
			list = append(list, given(d))
		}
	}
	return list, ctx.Err()
}

func (s storeOf) SaveRelease(ctx context.Context, r domain.Release) error {
	return s.write(ctx, "release", func() error {
		i := slices.IndexFunc(s.releases, func(o domain.Release) bool { return o.ID == r.ID })
		if i < 0 {
			s.releases = append(s.releases, deep(r))
			return nil
		}
		s.releases[i] = deep(r)
		return nil
	})
}

func (s storeOf) Release(ctx context.Context, id string) (domain.Release, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.releases {
		if r.ID == id {
			return given(r), ctx.Err()
		}
	}
	return domain.Release{}, domain.Errorf(domain.NotFound, "release %s: not found", id)
}

func (s storeOf) Releases(ctx context.Context, app string, env domain.Environment, limit int) ([]domain.Release, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []domain.Release
	for _, r := range slices.Backward(s.releases) {
		if r.App == app && r.Environment == env && (limit <= 0 || len(list) < limit) {
			list = append(list, given(r))
		}
	}
	return list, ctx.Err()
}

func slotKey(app string, env domain.Environment) string { return app + "/" + string(env) }

func (s storeOf) Slot(ctx context.Context, app string, env domain.Environment) (domain.Slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok := s.slots[slotKey(app, env)]
	if !ok {
		slot = domain.Slot{App: app, Environment: env}
	}
	return slot, ctx.Err()
}

func isOpen(r domain.RolloutRecord) bool {
	return r.State == domain.RolloutOpen || r.State == domain.RolloutReverting
}

func (s storeOf) OpenRollout(ctx context.Context, r domain.RolloutRecord) (domain.RolloutRecord, error) {
	return r, s.write(ctx, "open rollout", func() error {
		for _, other := range s.rollouts {
			if other.App == r.App && other.Environment == r.Environment && isOpen(other) && other.ID != r.ID {
				return domain.Errorf(domain.Conflict, "rollout %s of delivery %d is open in %s of %s", other.ID, other.Delivery, r.Environment, r.App)
			}
		}
		s.rollouts = append(s.rollouts, deep(r))
		return nil
	})
}

func (s storeOf) SaveRollout(ctx context.Context, r domain.RolloutRecord) error {
	return s.write(ctx, "rollout", func() error { return s.put(r) })
}

func (s storeOf) put(r domain.RolloutRecord) error {
	for i := range s.rollouts {
		if s.rollouts[i].ID == r.ID {
			s.rollouts[i] = deep(r)
			return nil
		}
	}
	return domain.Errorf(domain.NotFound, "rollout %s: not found", r.ID)
}

func (s storeOf) FinishRollout(ctx context.Context, r domain.RolloutRecord, slot domain.Slot) error {
	if isOpen(r) {
		return domain.Errorf(domain.Invalid, "finish rollout %s: it is still %s", r.ID, r.State)
	}
	return s.write(ctx, "finish rollout", func() error {
		s.slots[slotKey(slot.App, slot.Environment)] = slot
		return s.put(r)
	})
}

func (s storeOf) SaveSlot(ctx context.Context, slot domain.Slot) error {
	return s.write(ctx, "slot", func() error {
		s.slots[slotKey(slot.App, slot.Environment)] = slot
		return nil
	})
}

func (s storeOf) Rollout(ctx context.Context, id string) (domain.RolloutRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rollouts {
		if r.ID == id {
			return given(r), ctx.Err()
		}
	}
	return domain.RolloutRecord{}, domain.Errorf(domain.NotFound, "rollout %s: not found", id)
}

func (s storeOf) OpenRollouts(ctx context.Context) ([]domain.RolloutRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []domain.RolloutRecord
	for _, r := range s.rollouts {
		if isOpen(r) {
			list = append(list, given(r))
		}
	}
	return list, ctx.Err()
}

func (s storeOf) RolloutsOf(ctx context.Context, app string, delivery int) ([]domain.RolloutRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []domain.RolloutRecord
	for _, r := range s.rollouts {
		if r.App == app && r.Delivery == delivery {
			list = append(list, given(r))
		}
	}
	return list, ctx.Err()
}

func (s storeOf) Lookup(ctx context.Context, run, name string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, ok := s.journal[run+"\x00"+name]
	return slices.Clone(raw), ok, ctx.Err()
}

func (s storeOf) Save(ctx context.Context, run, name string, record []byte) error {
	return s.write(ctx, "journal "+name, func() error { s.journal[run+"\x00"+name] = slices.Clone(record); return nil })
}

func (s storeOf) AppendEvents(ctx context.Context, events ...domain.Event) (int64, error) {
	last := int64(0)
	return last, s.write(ctx, "event", func() error {
		for _, e := range events {
			e = deep(e)
			e.Seq = int64(len(s.events)) + 1
			s.events = append(s.events, e)
		}
		return nil
	})
}

func (s storeOf) Events(ctx context.Context, after int64, f EventFilter, limit int) ([]domain.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []domain.Event
	for _, e := range s.events {
		if e.Seq > after && (f.App == "" || f.App == e.App) && (f.Delivery == 0 || f.Delivery == e.Delivery) && (limit <= 0 || len(list) < limit) {
			list = append(list, e)
		}
	}
	return list, ctx.Err()
}

func (s storeOf) LastEvent(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.events)), nil
}

func (s storeOf) Subscribe() (<-chan struct{}, func()) { return make(chan struct{}), func() {} }

func (s storeOf) PutFact(ctx context.Context, f domain.Fact) error {
	return s.write(ctx, "fact", func() error { s.facts = append(s.facts, f); return nil })
}

func (s storeOf) Facts(ctx context.Context, app string, delivery int) ([]domain.Fact, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []domain.Fact
	for _, f := range s.facts {
		if f.App == app && (delivery == 0 || f.Delivery == delivery) {
			list = append(list, f)
		}
	}
	return list, ctx.Err()
}

func (s storeOf) Hold(ctx context.Context, app string) (*domain.Hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.holds[app]
	if !ok {
		return nil, ctx.Err()
	}
	h = deep(h)
	return &h, ctx.Err()
}

func (s storeOf) SetHold(ctx context.Context, app string, h domain.Hold) error {
	return s.write(ctx, "hold", func() error { s.holds[app] = deep(h); return nil })
}

func (s storeOf) ClearHold(ctx context.Context, app string) error {
	return s.write(ctx, "lift hold", func() error { delete(s.holds, app); return nil })
}

func (s storeOf) Freezes(ctx context.Context) ([]domain.Freeze, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail("freezes"); err != nil {
			return nil, err
		}
	}
	var list []domain.Freeze
	for _, f := range s.freezes {
		list = append(list, given(f))
	}
	return list, ctx.Err()
}

func (s storeOf) SetFreeze(ctx context.Context, f domain.Freeze) error {
	return s.write(ctx, "freeze", func() error { s.freezes[f.App] = deep(f); return nil })
}

func (s storeOf) LiftFreeze(ctx context.Context, app string) error {
	return s.write(ctx, "thaw", func() error { delete(s.freezes, app); return nil })
}
