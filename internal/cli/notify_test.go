package cli

import (
	"context"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Channels are one that works, one that fails and one without a URL.
func (f *fake) Channels(_ context.Context, app string) ([]domain.ChannelStatus, error) {
	if app == "nobody" {
		return []domain.ChannelStatus{}, nil
	}
	then := time.Now().Add(-90 * time.Second)
	return []domain.ChannelStatus{
		{App: app, Channel: "mail", Events: []domain.NoticeKind{domain.NoticeDone}},
		{App: app, Channel: "oncall", Events: []domain.NoticeKind{domain.NoticeFailed, domain.NoticeHeld}, Set: true, Kind: "webhook", Signed: true, OK: &then},
		{App: app, Channel: "team", Set: true, Kind: "slack", Failed: &then, Why: "it answered \x1b[31m500", Pending: 2},
	}, nil
}

// TestChannel is taken by oncall only.
func (f *fake) TestChannel(_ context.Context, app, channel string) (domain.ChannelTest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, "test "+app+" "+channel)
	t := domain.ChannelTest{App: app, Channel: channel, Kind: "webhook", OK: true, Answer: "204 No Content", Took: 0.2}
	switch channel {
	case "mail":
		return t, domain.Errorf(domain.NotFound, "channel mail of %s: no URL is set", app).WithHint("belay secret set notify/mail")
	case "team":
		t.OK, t.Kind, t.Answer = false, "slack", "no answer within 10s"
	}
	return t, nil
}

func TestChannelLine(t *testing.T) {
	now := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	before, longBefore := now.Add(-time.Minute), now.Add(-time.Hour)
	for _, c := range []struct {
		ch   domain.ChannelStatus
		want string
	}{
		{domain.ChannelStatus{Channel: "x", Set: true, Kind: "webhook"}, "not in belay.yaml · webhook, not signed · never tried"},
		{domain.ChannelStatus{Channel: "x", Set: true, Kind: "smtp", OK: &longBefore, Failed: &before, Why: "535"}, "not in belay.yaml · smtp · failed 1m 00s ago: 535"},
		{domain.ChannelStatus{Channel: "x", Set: true, Kind: "smtp", OK: &before, Failed: &longBefore}, "not in belay.yaml · smtp · reached 1m 00s ago"},
		{domain.ChannelStatus{Channel: "x", Set: true, Kind: "smtp", OK: &before, Changed: true}, "not in belay.yaml · smtp · another URL since it was last reached"},
	} {
		if got := channelLine(c.ch, now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
