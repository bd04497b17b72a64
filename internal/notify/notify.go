// Package notify tells people outside about their deliveries: it turns stored events into messages, keeps them until the
// receiver has taken them, and never delays a delivery or another channel.
//
// A message is stored in the same transaction that moves the cursor over its event, and is marked as sent after the receiver
// took it: whatever kills the process, nothing is lost, and at most the message in flight of a channel comes twice, with the
// same id.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// OnCall is the channel that the checklist asks for.
const OnCall = "oncall"

// Secret is the name under which the URL of a channel is kept.
func Secret(channel string) string { return "notify/" + channel }

// Store keeps events and messages. Every save is durable when it returns.
type Store interface {
	// EventsOf lists at most limit events of these types after a number, in order.
	EventsOf(ctx context.Context, after int64, types []string, limit int) ([]domain.Event, error)
	LastEvent(ctx context.Context) (int64, error)
	// Subscribe returns a channel that gets a value after events were stored.
	Subscribe() (wake <-chan struct{}, cancel func())

	NoticeCursor(ctx context.Context) (seq int64, known bool, err error)
	// AddNotices moves the cursor and stores messages, all of it or nothing. A message takes the place of what is pending of
	// the same channel, delivery and kind; one that is known changes nothing.
	AddNotices(ctx context.Context, cursor int64, list ...domain.Notice) error
	PendingNotices(ctx context.Context, limit int) ([]domain.Notice, error)
	NoticePending(ctx context.Context, id string) (bool, error)
	// LastNotice says when the channel was last told of the same delivery and kind; the zero time is never.
	LastNotice(ctx context.Context, n domain.Notice) (time.Time, error)
	// SaveNotice stores how a message went, with its channel's record (nil: as it was) and events about it, all or nothing.
	SaveNotice(ctx context.Context, n domain.Notice, r *domain.ChannelRecord, events ...domain.Event) error
	ChannelRecords(ctx context.Context, app string) ([]domain.ChannelRecord, error)
	SaveChannelRecord(ctx context.Context, r domain.ChannelRecord) error
	PruneNotices(ctx context.Context, before time.Time) error
}

// Channels knows where messages go. An error of code NotFound says that no URL is set.
type Channels interface {
	Channel(ctx context.Context, app, name string) (domain.Secret, error)
}

// Deliveries knows what messages are about.
type Deliveries interface {
	Delivery(ctx context.Context, app string, number int) (domain.Delivery, error)
	// Listening returns which channels are told about which events of a delivery; number 0 is the app as it is now.
	Listening(ctx context.Context, app string, number int) (map[string][]string, error)
}

// Sender hands one message to its receiver, once. Its answer and its error hold nothing of the URL.
type Sender interface {
	Send(ctx context.Context, url domain.Secret, n domain.Notice) (answer string, err error)
}

// Config is what a Notifier needs.
type Config struct {
	Store      Store
	Channels   Channels
	Deliveries Deliveries
	Sender     Sender
	// Place tells one URL from another by a keyed fingerprint. Default: they are not told apart.
	Place func(app, channel string, url domain.Secret) string
	Log   *slog.Logger     // default: nowhere
	Now   func() time.Time // default time.Now
}

// Notifier is the outbox of one server.
type Notifier struct {
	Config
	cursor int64         // the last event that was looked at
	saved  int64         // the cursor as it is stored: nothing was told between the two
	wake   chan struct{} // a worker ended

	mu    sync.Mutex
	busy  map[place]bool
	fails map[place]int       // in a row
	pause map[place]time.Time // nothing is tried before
}

// place is one channel of one app.
type place struct{ app, channel string }

// The times of the outbox.
const (
	giveUpAfter  = 24 * time.Hour
	apart        = time.Minute // between two messages about the same delivery and kind
	firstRetry   = 2 * time.Second
	longestRetry = 15 * time.Minute
	keepFor      = 30 * 24 * time.Hour
	pruneEvery   = time.Hour
	storeRetry   = time.Second // after an error of the store
)

// New makes an outbox. Run begins its work.
func New(c Config) *Notifier {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Place == nil {
		c.Place = func(string, string, domain.Secret) string { return "" }
	}
	return &Notifier{Config: c, wake: make(chan struct{}, 1), busy: map[place]bool{}, fails: map[place]int{}, pause: map[place]time.Time{}}
}

// Run turns events into messages and sends them, until ctx ends. What is in flight then is sent again by the next process.
func (n *Notifier) Run(ctx context.Context) {
	events, cancel := n.Store.Subscribe()
	defer cancel()
	var workers sync.WaitGroup
	defer workers.Wait()
	pruned := time.Time{}
	for ctx.Err() == nil {
		if now := n.Now(); now.Sub(pruned) > pruneEvery {
			pruned = now
			if err := n.Store.PruneNotices(ctx, now.Add(-keepFor)); err != nil {
				n.complain(ctx, "prune messages", err)
			}
		}
		next, err := n.turn(ctx, &workers)
		if err != nil {
			n.complain(ctx, "read the outbox", err)
			next = n.Now().Add(storeRetry)
		}
		timer := time.NewTimer(max(0, next.Sub(n.Now())))
		select {
		case <-events:
		case <-n.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (n *Notifier) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		n.Log.Error(what, "error", err)
	}
}

// turn computes what is new, begins to send what is due, and returns when to look again at the latest.
func (n *Notifier) turn(ctx context.Context, workers *sync.WaitGroup) (time.Time, error) {
	failed := n.compute(ctx)
	next, err := n.dispatch(ctx, workers) // what is there already waits for nobody
	return next, errors.Join(failed, err)
}

// pendingLimit bounds how many messages are looked at at a time.
const pendingLimit = 1000

// dispatch begins to send what is due, each channel by itself.
func (n *Notifier) dispatch(ctx context.Context, workers *sync.WaitGroup) (next time.Time, err error) {
	pending, err := n.Store.PendingNotices(ctx, pendingLimit)
	if err != nil {
		return next, err
	}
	now := n.Now()
	next = now.Add(pruneEvery)
	due := map[place][]domain.Notice{}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range pending {
		at := place{m.App, m.Channel}
		if n.busy[at] {
			continue // it wakes us when it ends
		}
		when := m.Next
		if n.pause[at].After(when) {
			when = n.pause[at]
		}
		if when.After(now) {
			next = earlier(next, when)
			continue
		}
		due[at] = append(due[at], m)
	}
	for at, list := range due {
		n.busy[at] = true
		workers.Go(func() {
			n.work(ctx, at, list)
			n.mu.Lock()
			delete(n.busy, at)
			n.mu.Unlock()
			select {
			case n.wake <- struct{}{}:
			default:
			}
		})
	}
	return next, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Test sends a message now, whatever the file says, and returns what the receiver answered.
func (n *Notifier) Test(ctx context.Context, app, channel string) (domain.ChannelTest, error) {
	url, err := n.Channels.Channel(ctx, app, channel)
	if err != nil {
		return domain.ChannelTest{}, n.unset(app, channel, err)
	}
	now := n.Now().UTC()
	m := domain.Notice{
		ID: domain.NewID("ntf_"), App: app, Channel: channel, Kind: domain.NoticeTest, Created: now, State: domain.NoticePending,
		Sentence: "test: this channel works", Event: domain.Event{At: now, Type: "notify.test", App: app},
	}
	answer, err := n.Sender.Send(ctx, url, m)
	result := domain.ChannelTest{App: app, Channel: channel, Kind: Kind(url), OK: err == nil, Answer: answer, Took: n.Now().Sub(now).Seconds()}
	if err != nil {
		result.Answer = err.Error()
	}
	record, err := n.record(ctx, place{app, channel}, url, err)
	if err != nil {
		return result, err
	}
	if err := n.Store.SaveChannelRecord(ctx, record); err != nil || !result.OK {
		return result, err
	}
	return result, n.rouse(ctx, place{app, channel})
}

// rouse sends what a channel missed at once: it works again.
func (n *Notifier) rouse(ctx context.Context, at place) error {
	pending, err := n.Store.PendingNotices(ctx, 0)
	if err != nil {
		return err
	}
	n.setBack(at, 0)
	for _, m := range pending {
		if m.App != at.app || m.Channel != at.channel {
			continue
		}
		m.Next = n.Now().UTC()
		if err := n.Store.SaveNotice(ctx, m, nil); err != nil {
			return err
		}
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return nil
}

func (n *Notifier) unset(app, channel string, err error) error {
	if domain.CodeOf(err) != domain.NotFound {
		return err
	}
	return domain.Errorf(domain.NotFound, "channel %s of %s: no URL is set", channel, app).
		WithHint("belay secret set %s", Secret(channel))
}

// record is the record of a channel with what happened now.
func (n *Notifier) record(ctx context.Context, at place, url domain.Secret, failure error) (domain.ChannelRecord, error) {
	record := domain.ChannelRecord{App: at.app, Channel: at.channel}
	known, err := n.Store.ChannelRecords(ctx, at.app)
	if err != nil {
		return record, err
	}
	for _, r := range known {
		if r.Channel == at.channel {
			record = r
		}
	}
	now := n.Now().UTC()
	if failure == nil {
		record.OK, record.Place = &now, n.Place(at.app, at.channel, url)
	} else {
		record.Failed, record.Why = &now, failure.Error()
	}
	return record, nil
}

// OnCall reports whether on-call people hear of an app whose file names their channel or does not, and what is missing
// otherwise.
func (n *Notifier) OnCall(ctx context.Context, app string, named bool) (ok bool, detail string, err error) {
	if !named {
		return false, "belay.yaml names no channel oncall: notify: { oncall: [failed, rolled_back, held, waiting] }", nil
	}
	s, err := n.status(ctx, app, OnCall, nil)
	switch {
	case err != nil:
		return false, "", err
	case !s.Set:
		return false, "the channel oncall has no URL: belay secret set " + Secret(OnCall), nil
	case s.OK == nil && s.Failed == nil, s.Changed:
		return false, fmt.Sprintf("nothing was sent to this URL of oncall yet: belay notify test oncall --app %s", app), nil
	case s.OK == nil || s.Failed != nil && s.Failed.After(*s.OK):
		return false, "the last message to oncall failed: " + s.Why, nil
	}
	return true, fmt.Sprintf("oncall (%s), last reached %s", s.Kind, s.OK.UTC().Format("2 Jan 15:04 UTC")), nil
}
