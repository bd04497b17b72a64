package web_test

import (
	"context"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/domain"
)

func (f *fake) Channels(_ context.Context, app string) ([]domain.ChannelStatus, error) {
	f.note("channels %s", app)
	return []domain.ChannelStatus{{App: app, Channel: "oncall", Events: []domain.NoticeKind{domain.NoticeFailed}, Set: true, Kind: "slack"}}, nil
}

func (f *fake) TestChannel(_ context.Context, app, channel string) (domain.ChannelTest, error) {
	f.note("test channel %s %s", app, channel)
	if channel == "nobody" {
		return domain.ChannelTest{}, domain.Errorf(domain.NotFound, "channel nobody of shop: no URL is set").WithHint("belay secret set notify/nobody")
	}
	return domain.ChannelTest{App: app, Channel: channel, Kind: "webhook", OK: true, Answer: "204 No Content"}, nil
}

func TestChannels(t *testing.T) {
	r := start(t, nil)
	if status, answer, _ := r.local(t, "GET", "/v1/apps/shop/channels", ""); status != 200 || !strings.Contains(answer, `"kind":"slack"`) {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer, _ := r.local(t, "POST", "/v1/apps/shop/channels/oncall/test", ""); status != 200 || !strings.Contains(answer, `"answer":"204 No Content"`) {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer, _ := r.local(t, "POST", "/v1/apps/shop/channels/nobody/test", ""); status != 404 || !strings.Contains(answer, "secret set notify/nobody") {
		t.Errorf("%d %s", status, answer)
	}
	for _, bad := range []string{"/v1/apps/shop/channels/ONCALL/test", "/v1/apps/shop/channels/..%2f/test"} {
		if status, answer, _ := r.local(t, "POST", bad, ""); status < 400 || status >= 500 {
			t.Errorf("%s: %d %s", bad, status, answer)
		}
	}
}
