package notify

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// work sends the messages of one channel, one after the other, until one fails.
func (n *Notifier) work(ctx context.Context, at place, list []domain.Notice) {
	for _, m := range list {
		if ctx.Err() != nil {
			return
		}
		ok, err := n.attempt(ctx, at, m)
		if err != nil {
			n.complain(ctx, "keep a message", err)
			n.setBack(at, storeRetry)
			return
		}
		if !ok {
			return
		}
	}
}

// attempt sends one message, unless it was replaced or comes too soon. It returns false when the channel does not answer.
func (n *Notifier) attempt(ctx context.Context, at place, m domain.Notice) (ok bool, err error) {
	if pending, err := n.Store.NoticePending(ctx, m.ID); err != nil || !pending {
		return true, err
	}
	if last, err := n.Store.LastNotice(ctx, m); err != nil {
		return false, err
	} else if next := last.Add(apart); next.After(n.Now()) {
		m.Next = next
		return true, n.Store.SaveNotice(ctx, m, nil)
	}
	if over, err := n.over(ctx, m); err != nil || over {
		return true, err
	}
	url, failure := n.Channels.Channel(ctx, at.app, at.channel)
	if domain.CodeOf(failure) == domain.NotFound && failure != nil {
		return true, n.giveUp(ctx, m, "no URL is set: belay secret set "+Secret(at.channel), nil)
	}
	if failure == nil {
		m.Attempts++
		_, failure = n.Sender.Send(ctx, url, m)
	}
	if failure != nil && ctx.Err() != nil {
		return false, nil //nolint:nilerr // the process ends: it is sent again by the next one
	}
	record, err := n.record(ctx, at, url, failure)
	if err != nil {
		return false, err
	}
	if failure != nil {
		return false, n.failed(ctx, at, m, &record, failure)
	}
	n.setBack(at, 0)
	now := n.Now().UTC()
	m.State, m.Ended, m.Why = domain.NoticeSent, &now, ""
	return true, n.Store.SaveNotice(ctx, m, &record)
}

// over ends a message that comes too late to be true: a wait that nobody heard of, and that is over.
func (n *Notifier) over(ctx context.Context, m domain.Notice) (bool, error) {
	if m.Kind != domain.NoticeWaiting || m.Attempts == 0 {
		return false, nil
	}
	d, err := n.Deliveries.Delivery(ctx, m.App, m.Delivery)
	if err != nil && domain.CodeOf(err) != domain.NotFound || err == nil && d.State == domain.WaitingState {
		return false, err
	}
	m.State = domain.NoticeReplaced
	return true, n.Store.SaveNotice(ctx, m, nil)
}

// failed puts a message off, or gives it up when it is old.
func (n *Notifier) failed(ctx context.Context, at place, m domain.Notice, r *domain.ChannelRecord, why error) error {
	n.mu.Lock()
	n.fails[at]++
	pause := backOff(n.fails[at])
	n.mu.Unlock()
	var busy *BusyError
	if errors.As(why, &busy) {
		pause = max(pause, min(busy.After, longestRetry))
	}
	n.setBack(at, pause)
	m.Why = why.Error()
	m.Next = n.Now().UTC().Add(max(pause, backOff(m.Attempts)))
	if m.Next.Sub(m.Created) > giveUpAfter {
		return n.giveUp(ctx, m, m.Why, r)
	}
	n.Log.Warn("a message was not taken, it is tried again", "app", m.App, "channel", m.Channel, "kind", m.Kind, "attempt", m.Attempts, "why", m.Why)
	return n.Store.SaveNotice(ctx, m, r)
}

// giveUp ends a message that nobody took, and says so in an event.
func (n *Notifier) giveUp(ctx context.Context, m domain.Notice, why string, r *domain.ChannelRecord) error {
	now := n.Now().UTC()
	m.State, m.Ended, m.Why = domain.NoticeGivenUp, &now, why
	if r == nil {
		record, err := n.record(ctx, place{m.App, m.Channel}, domain.Secret{}, errors.New(why))
		if err != nil {
			return err
		}
		r = &record
	}
	n.Log.Error("a message was given up", "app", m.App, "channel", m.Channel, "kind", m.Kind, "why", why)
	return n.Store.SaveNotice(ctx, m, r, domain.Event{
		At: now, Type: "notify.failed", App: m.App, Delivery: m.Delivery, By: "belay",
		Data: map[string]any{"channel": m.Channel, "kind": m.Kind, "attempts": m.Attempts, "sentence": "channel " + m.Channel + ": " + why},
	})
}

// setBack lets a channel rest; 0 says that it works.
func (n *Notifier) setBack(at place, pause time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if pause == 0 {
		delete(n.fails, at)
		delete(n.pause, at)
		return
	}
	n.pause[at] = n.Now().Add(pause)
}

// backOff doubles with each attempt, a quarter more or less, so that many messages do not come at one instant.
func backOff(attempts int) time.Duration {
	pause := firstRetry
	for i := 1; i < attempts && pause < longestRetry; i++ {
		pause *= 2
	}
	pause = min(pause, longestRetry)
	return pause*3/4 + rand.N(pause/2)
}
