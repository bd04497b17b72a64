package cli

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// Times of following a delivery.
const (
	pollEvery = 2 * time.Second        // the delivery is asked for, in case an event was not understood
	settle    = 300 * time.Millisecond // quiet time after the end in which last events may arrive, its own among them
	giveUp    = 5 * time.Minute        // a server that is away so long is not restarting
)

// source is what following needs of the API.
type deliveries interface {
	Delivery(ctx context.Context, app string, number int) (domain.Delivery, error)
	Events(ctx context.Context, after int64, filter client.EventFilter, f func(domain.Event) error) error
}

// sight is what a watcher of a delivery gets to see, one fact at a time.
type sight struct {
	event    *domain.Event   // one event, in order, each once
	delivery domain.Delivery // as it was last seen
	away     bool            // the server does not answer
}

// follower follows one delivery over every restart of the server.
type follower struct {
	api   deliveries
	retry time.Duration // between two tries to reach a server that is away
	app   string
	// until ends the following; nil is the end of the delivery.
	until func(domain.Delivery) bool
}

// news is one message of the goroutine that reads the event stream.
type news struct {
	event *domain.Event
	err   error // the stream is lost; nil with a nil event: it is back
}

// follow calls see for each event of the delivery from its beginning, and for each change of the server's presence. It
// returns the delivery as it was at the end.
func (f follower) follow(ctx context.Context, d domain.Delivery, see func(sight) error) (domain.Delivery, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream := make(chan news)
	go f.read(ctx, d.Number, stream)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var quiet <-chan time.Time // runs once the end was seen
	w := watch{f: f, d: d, see: see}
	for {
		if f.until != nil && f.until(w.d) {
			return w.d, nil
		}
		if w.ended {
			return w.d, nil
		}
		if quiet == nil && w.d.State.Final() {
			quiet = time.After(settle)
		}
		var err error
		select {
		case <-ctx.Done():
			return w.d, context.Cause(ctx)
		case <-quiet:
			return w.d, nil
		case n := <-stream:
			err = w.hear(ctx, n)
			if quiet != nil {
				quiet = time.After(settle)
			}
		case <-poll.C:
			err = w.look(ctx)
		}
		if err != nil {
			return w.d, err
		}
	}
}

// read passes the event stream on, and opens it again after the last number when it is lost.
func (f follower) read(ctx context.Context, number int, out chan<- news) {
	send := func(n news) bool {
		select {
		case out <- n:
			return true
		case <-ctx.Done():
			return false
		}
	}
	after := int64(0)
	filter := client.EventFilter{App: f.app, Delivery: number}
	for ctx.Err() == nil {
		err := f.api.Events(ctx, after, filter, func(e domain.Event) error {
			after = e.Seq
			if !send(news{event: &e}) {
				return ctx.Err()
			}
			return nil
		})
		if ctx.Err() != nil || !send(news{err: err}) {
			return
		}
		select {
		case <-time.After(f.retry):
		case <-ctx.Done():
		}
	}
}

// watch is the state of following.
type watch struct {
	f    follower
	d    domain.Delivery
	see  func(sight) error
	away time.Time // since when the server does not answer; zero: it does
	// held are events that cannot be told before the delivery was looked at again.
	held []domain.Event
	// ended: the event of the delivery's end was told, and none comes after it.
	ended bool
}

// hear acts on one message of the event stream.
func (w *watch) hear(ctx context.Context, n news) error {
	if n.event == nil {
		if n.err != nil && domain.CodeOf(n.err) != domain.Unavailable {
			return n.err
		}
		return w.look(ctx)
	}
	w.held = append(w.held, *n.event)
	if changesRow(n.event.Type) {
		if err := w.look(ctx); err != nil {
			return err
		}
	}
	return w.tell()
}

// tell shows the held events, unless the server went away before it said what came of them.
func (w *watch) tell() error {
	for len(w.held) > 0 && w.away.IsZero() {
		e := w.held[0]
		w.held = w.held[1:]
		if err := w.see(sight{event: &e, delivery: w.d}); err != nil {
			return err
		}
		w.ended = w.d.State.Final() && e.Type == "delivery."+string(w.d.State)
	}
	return nil
}

// look asks for the delivery as it is now. A server that is away is no error until it has been so for long.
func (w *watch) look(ctx context.Context) error {
	d, err := w.f.api.Delivery(ctx, w.f.app, w.d.Number)
	switch {
	case err == nil:
		w.d = d
		if !w.away.IsZero() {
			w.away = time.Time{}
			if err := w.see(sight{delivery: d}); err != nil {
				return err
			}
		}
		return w.tell()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case domain.CodeOf(err) != domain.Unavailable:
		return err
	case w.away.IsZero():
		w.away = time.Now()
		return w.see(sight{delivery: w.d, away: true})
	case time.Since(w.away) > giveUp:
		return gone(w.d, err)
	}
	return nil
}

// gone says that a server has been away for so long that waiting for it makes no sense.
func gone(d domain.Delivery, err error) error {
	return domain.Errorf(domain.Unavailable, "%w: away for %s; #%d had been accepted and goes on with the server", err, took(giveUp), d.Number).
		WithHint("belay show %d --follow", d.Number)
}
