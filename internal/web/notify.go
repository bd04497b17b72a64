package web

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belay-cd/belay/internal/domain"
)

// Channels is what the API asks about who is told. No answer holds the URL of a channel or a part of it.
type Channels interface {
	// Channels shows who is told about what of an app, and whether that works.
	Channels(ctx context.Context, app string) ([]domain.ChannelStatus, error)
	// TestChannel sends a message now and returns what the receiver answered.
	TestChannel(ctx context.Context, app, channel string) (domain.ChannelTest, error)
}

type channelsList struct {
	Channels []domain.ChannelStatus `json:"channels" doc:"By name."`
}

// ChannelPath is the part of a path that names a channel of an app.
type ChannelPath struct {
	AppPath
	Channel string `path:"channel" maxLength:"40" pattern:"^[a-z][a-z0-9-]*$" doc:"Name of the channel, as in belay.yaml."`
}

func (s *Server) registerChannels(api huma.API) {
	get(s, api, "list-channels", "/v1/apps/{app}/channels", "Who is told about what", func(ctx context.Context, in *AppPath) (channelsList, error) {
		list, err := s.service.Channels(ctx, in.App)
		return channelsList{Channels: list}, err
	})
	post(s, api, "test-channel", "/v1/apps/{app}/channels/{channel}/test", "Send a test message now",
		func(ctx context.Context, in *ChannelPath) (domain.ChannelTest, error) {
			return s.service.TestChannel(ctx, in.App, in.Channel)
		})
}
