package notify

import (
	"context"
	"maps"
	"slices"

	"github.com/belay-cd/belay/internal/domain"
)

// List shows the channels of an app: those that its file names, and those that were ever sent to.
func (n *Notifier) List(ctx context.Context, app string) ([]domain.ChannelStatus, error) {
	listening, err := n.Deliveries.Listening(ctx, app, 0)
	if err != nil {
		return nil, err
	}
	names := map[string][]string{}
	maps.Copy(names, listening)
	records, err := n.Store.ChannelRecords(ctx, app)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if _, known := names[r.Channel]; !known {
			names[r.Channel] = nil
		}
	}
	list := []domain.ChannelStatus{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s, err := n.status(ctx, app, name, names[name])
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// status is one channel as it is now.
func (n *Notifier) status(ctx context.Context, app, channel string, events []string) (domain.ChannelStatus, error) {
	s := domain.ChannelStatus{App: app, Channel: channel, Events: []domain.NoticeKind{}}
	for _, e := range events {
		s.Events = append(s.Events, domain.NoticeKind(e))
	}
	records, err := n.Store.ChannelRecords(ctx, app)
	if err != nil {
		return s, err
	}
	place := ""
	for _, r := range records {
		if r.Channel == channel {
			s.OK, s.Failed, s.Why, place = r.OK, r.Failed, r.Why, r.Place
		}
	}
	pending, err := n.Store.PendingNotices(ctx, 0)
	if err != nil {
		return s, err
	}
	for _, m := range pending {
		if m.App == app && m.Channel == channel {
			s.Pending++
		}
	}
	url, err := n.Channels.Channel(ctx, app, channel)
	if domain.CodeOf(err) == domain.NotFound {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.Set, s.Kind, s.Signed = true, Kind(url), Signed(url)
	s.Changed = s.OK != nil && place != n.Place(app, channel, url)
	return s, nil
}
