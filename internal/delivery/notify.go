package delivery

import (
	"context"
	"math"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// Notifications tell people outside about deliveries.
type Notifications interface {
	// OnCall reports whether on-call people would hear of a delivery with this file, and what is missing otherwise.
	OnCall(ctx context.Context, app string, f *config.File) (ok bool, detail string, err error)
	// Test sends a message to a channel now, and returns what its receiver answered.
	Test(ctx context.Context, app, channel string) (domain.ChannelTest, error)
	// List shows the channels of an app.
	List(ctx context.Context, app string) ([]domain.ChannelStatus, error)
}

// TestChannel sends a message to a channel now, and returns what its receiver answered.
func (s *Service) TestChannel(ctx context.Context, app, channel string) (domain.ChannelTest, error) {
	if err := s.knownApp(ctx, app); err != nil {
		return domain.ChannelTest{}, err
	}
	return s.ports.Notifications.Test(ctx, app, channel)
}

// Channels shows who is told about what of an app, and whether that works.
func (s *Service) Channels(ctx context.Context, app string) ([]domain.ChannelStatus, error) {
	if err := s.knownApp(ctx, app); err != nil {
		return nil, err
	}
	return s.ports.Notifications.List(ctx, app)
}

func (s *Service) knownApp(ctx context.Context, app string) error {
	if s.ports.Notifications == nil {
		return domain.Errorf(domain.Unavailable, "this server notifies nobody")
	}
	_, err := s.ports.Store.Deliveries(ctx, app, 1)
	return err
}

// Listening returns which channels are told about which events of a delivery: those of its own file and those of the last
// one that was done before. Number 0 is the app as it is now. Of two files one that this version cannot read is left out.
func (s *Service) Listening(ctx context.Context, app string, number int) (map[string][]config.Event, error) {
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return nil, err
	}
	before := d.Number
	if number == 0 {
		before = math.MaxInt
	}
	own, ownErr := s.fileOf(ctx, app, d.Number)
	last, lastErr := s.lastDone(ctx, app, before)
	for _, err := range []error{ownErr, lastErr} {
		if err != nil && (domain.CodeOf(err) != domain.Invalid || own == nil && last == nil) {
			return nil, err
		}
	}
	return config.Listening(own, last), nil
}
