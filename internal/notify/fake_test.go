package notify

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// disk is a store in memory that outlives the notifiers of a test. It dies at an effect of choice, before or after it, as a
// process that is killed does: nothing of that life has an effect any more.
type disk struct {
	mu      sync.Mutex
	events  []domain.Event
	notices []domain.Notice
	records map[place]domain.ChannelRecord
	cursor  int64
	known   bool
	subs    map[chan struct{}]struct{}

	effects int
	dieAt   int  // the effect at which this life ends; 0 is never
	after   bool // it ends after the effect, else before
	dead    bool
	kill    context.CancelFunc
}

var errDead = errors.New("this process is dead")

func newDisk() *disk {
	return &disk{records: map[place]domain.ChannelRecord{}, subs: map[chan struct{}]struct{}{}}
}

// effect does something that others can see, unless the process dies of it.
func (d *disk) effect(do func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	d.effects++
	dies := d.effects == d.dieAt
	if !dies || d.after {
		do()
	}
	if dies {
		d.dead = true
		d.kill()
		return errDead
	}
	return nil
}

func (d *disk) tell(events ...domain.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.append(events)
}

func (d *disk) append(events []domain.Event) {
	for _, e := range events {
		e.Seq = int64(len(d.events) + 1)
		if e.At.IsZero() {
			e.At = time.Now().UTC()
		}
		if e.App == "" {
			e.App = "shop"
		}
		d.events = append(d.events, e)
	}
	for c := range d.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (d *disk) read() (unlock func(), err error) {
	d.mu.Lock()
	if d.dead {
		d.mu.Unlock()
		return func() {}, errDead
	}
	return d.mu.Unlock, nil
}

func (d *disk) EventsOf(_ context.Context, after int64, types []string, limit int) ([]domain.Event, error) {
	unlock, err := d.read()
	defer unlock()
	var list []domain.Event
	for _, e := range d.events {
		if err == nil && e.Seq > after && slices.Contains(types, e.Type) && len(list) < limit {
			list = append(list, e)
		}
	}
	return list, err
}

func (d *disk) LastEvent(context.Context) (int64, error) {
	unlock, err := d.read()
	defer unlock()
	return int64(len(d.events)), err
}

func (d *disk) Subscribe() (wake <-chan struct{}, cancel func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := make(chan struct{}, 1)
	d.subs[c] = struct{}{}
	return c, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.subs, c)
	}
}

func (d *disk) NoticeCursor(context.Context) (seq int64, known bool, err error) {
	unlock, err := d.read()
	defer unlock()
	return d.cursor, d.known, err
}

func (d *disk) AddNotices(_ context.Context, cursor int64, list ...domain.Notice) error {
	return d.effect(func() {
		d.cursor, d.known = cursor, true
		for _, n := range list {
			if slices.ContainsFunc(d.notices, func(o domain.Notice) bool { return o.ID == n.ID }) {
				continue
			}
			for i, o := range d.notices {
				if o.State == domain.NoticePending && o.App == n.App && o.Channel == n.Channel && o.Delivery == n.Delivery && o.Kind == n.Kind {
					d.notices[i].State = domain.NoticeReplaced
				}
			}
			d.notices = append(d.notices, n)
		}
	})
}

func (d *disk) PendingNotices(context.Context, int) ([]domain.Notice, error) {
	unlock, err := d.read()
	defer unlock()
	var list []domain.Notice
	for _, n := range d.notices {
		if err == nil && n.State == domain.NoticePending {
			list = append(list, n)
		}
	}
	return list, err
}

func (d *disk) NoticePending(_ context.Context, id string) (bool, error) {
	unlock, err := d.read()
	defer unlock()
	return slices.ContainsFunc(d.notices, func(n domain.Notice) bool { return n.ID == id && n.State == domain.NoticePending }), err
}

func (d *disk) LastNotice(_ context.Context, n domain.Notice) (last time.Time, err error) {
	unlock, err := d.read()
	defer unlock()
	for _, o := range d.notices {
		if o.App == n.App && o.Channel == n.Channel && o.Delivery == n.Delivery && o.Kind == n.Kind && o.State == domain.NoticeSent && o.Ended.After(last) {
			last = *o.Ended
		}
	}
	return last, err
}

func (d *disk) SaveNotice(_ context.Context, n domain.Notice, r *domain.ChannelRecord, events ...domain.Event) error {
	return d.effect(func() {
		for i, o := range d.notices {
			if o.ID == n.ID && (o.State == domain.NoticePending || n.State == domain.NoticeSent) {
				d.notices[i] = n
			}
		}
		if r != nil {
			d.records[place{r.App, r.Channel}] = *r
		}
		d.append(events)
	})
}

func (d *disk) ChannelRecords(_ context.Context, app string) ([]domain.ChannelRecord, error) {
	unlock, err := d.read()
	defer unlock()
	var list []domain.ChannelRecord
	for _, r := range d.records {
		if r.App == app {
			list = append(list, r)
		}
	}
	return list, err
}

func (d *disk) SaveChannelRecord(_ context.Context, r domain.ChannelRecord) error {
	return d.effect(func() { d.records[place{r.App, r.Channel}] = r })
}

func (d *disk) PruneNotices(context.Context, time.Time) error { return nil }

// world is what messages are about, and where they go.
type world struct {
	listening map[string][]string
	unset     map[string]bool
}

func (w *world) Delivery(_ context.Context, app string, number int) (domain.Delivery, error) {
	return domain.Delivery{App: app, Number: number, Commit: "4f2c81a9", Subject: "Sell tea", Author: "ana", URL: "http://belay/shop/7"}, nil
}

func (w *world) Listening(context.Context, string, int) (map[string][]string, error) {
	return w.listening, nil
}

func (w *world) Channel(_ context.Context, _, name string) (domain.Secret, error) {
	if w.unset[name] {
		return domain.Secret{}, domain.Errorf(domain.NotFound, "secret notify/%s is not set", name)
	}
	return domain.NewSecret("https://127.0.0.1/" + name + "/T0PSECRET"), nil
}

// inbox is a receiver. It outlives the notifiers, too.
type inbox struct {
	disk *disk // sending is an effect; nil: of nobody
	mu   sync.Mutex
	got  []string // channel and id
	text map[string]string
	at   map[string]time.Time
	// refuse says whether a message is not taken; hang whether it never comes back.
	refuse func(n domain.Notice) error
	hang   func(n domain.Notice) bool
}

func (b *inbox) Send(ctx context.Context, _ domain.Secret, n domain.Notice) (string, error) {
	if b.hang != nil && b.hang(n) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	if b.refuse != nil {
		if err := b.refuse(n); err != nil {
			return "", err
		}
	}
	take := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.got = append(b.got, n.Channel+" "+n.ID)
		if b.text == nil {
			b.text, b.at = map[string]string{}, map[string]time.Time{}
		}
		b.text[n.ID], b.at[n.ID] = n.Sentence, time.Now()
	}
	if b.disk == nil {
		take()
		return "ok", nil
	}
	return "ok", b.disk.effect(take)
}

func (b *inbox) list() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

// told returns the sentences in the order in which they came.
func (b *inbox) told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, g := range b.got {
		_, id, _ := cut(g)
		channel, _, _ := cut(g)
		list = append(list, channel+": "+b.text[id])
	}
	return list
}

func cut(g string) (channel, id string, ok bool) {
	for i := range g {
		if g[i] == ' ' {
			return g[:i], g[i+1:], true
		}
	}
	return g, "", false
}
