package client

import (
	"context"

	"github.com/belay-cd/belay/internal/domain"
)

// Channels shows who is told about what of an app, and whether that works.
func (c *Client) Channels(ctx context.Context, app string) ([]domain.ChannelStatus, error) {
	list, err := get[struct {
		Channels []domain.ChannelStatus `json:"channels"`
	}](ctx, c, path("apps", app, "channels"), nil)
	return list.Channels, err
}

// TestChannel has the server send a test message now. What the receiver answered is in the result, also when it took nothing.
func (c *Client) TestChannel(ctx context.Context, app, channel string) (domain.ChannelTest, error) {
	return post[domain.ChannelTest](ctx, c, path("apps", app, "channels", channel)+"/test", struct{}{})
}
