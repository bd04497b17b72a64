package app

import (
	"context"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/notify"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/store"
)

// outbox is the store as notifications see it.
type outbox struct{ *store.Store }

// EventsOf lists events of some types after a number.
func (o outbox) EventsOf(ctx context.Context, after int64, types []string, limit int) ([]domain.Event, error) {
	return o.Events(ctx, after, store.EventFilter{Types: types}, limit)
}

// listeners knows what messages are about. The service is there before the first message is computed.
type listeners struct{ s *Server }

// Delivery returns one delivery.
func (l listeners) Delivery(ctx context.Context, app string, number int) (domain.Delivery, error) {
	return l.s.store.Delivery(ctx, app, number)
}

// Listening returns which channels are told about which events of a delivery.
func (l listeners) Listening(ctx context.Context, app string, number int) (map[string][]string, error) {
	list, err := l.s.service.Listening(ctx, app, number)
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for channel, events := range list {
		all[channel] = []string{}
		for _, e := range events {
			all[channel] = append(all[channel], string(e))
		}
	}
	return all, nil
}

// notifications are the outbox as deliveries see it.
type notifications struct{ *notify.Notifier }

// OnCall reports whether on-call people would hear of a delivery with this file.
func (n notifications) OnCall(ctx context.Context, app string, f *config.File) (bool, string, error) {
	named := false
	if f != nil {
		_, named = f.Notify[notify.OnCall]
	}
	return n.Notifier.OnCall(ctx, app, named)
}

// openNotify makes the outbox; runNotify begins its work when the deliveries are there.
func (s *Server) openNotify(channels notify.Channels) notifications {
	source := "belay"
	if s.url != "" {
		source = s.url
	}
	return notifications{notify.New(notify.Config{
		Store: outbox{s.store}, Channels: channels, Deliveries: listeners{s}, Log: s.log,
		Sender: &notify.Receivers{Version: s.o.Version, Source: source},
		Place: func(app, channel string, url domain.Secret) string {
			return s.sealer.Fingerprint(secrets.Place{App: app, Name: notify.Secret(channel)}, url)
		},
	})}
}

// runNotify sends messages until the server stops. What is not sent by then is sent by the next process.
func (s *Server) runNotify(n notifications) {
	ctx, cancel := context.WithCancel(s.work)
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	s.later("notifications", func(stop context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-stop.Done():
			return context.Cause(stop)
		}
	})
}

// checkChannel refuses the URL of a channel that no message could be sent to, before it is stored.
func checkChannel(p domain.SecretPlace, value domain.Secret) error {
	if _, ok := p.Channel(); !ok {
		return nil
	}
	return notify.Check(value)
}
