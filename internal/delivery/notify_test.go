package delivery

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// A commit that silences its own alarms is told of all the same; from the next delivery on its silence counts.
func TestWhoHearsOfADelivery(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.yaml[sha("a")] = belayYAML + "notify: { oncall: [failed], team: [done] }\n"
		w.yaml[sha("b")] = belayYAML + "notify: { team: [done, started] }\n"
		hear := func(number int, want string) {
			t.Helper()
			got, err := w.life.s.Listening(t.Context(), "shop", number)
			if err != nil || fmt.Sprint(got) != want {
				t.Errorf("#%d: %v, %v, want %s", number, got, err, want)
			}
		}
		a, b := w.done("a"), w.done("b")
		hear(a.Number, "map[oncall:[failed] team:[done]]")
		hear(b.Number, "map[oncall:[failed] team:[done started]]")
		hear(0, "map[team:[done started]]")
		if !strings.Contains(strings.Join(b.Loosened, "\n"), "notify.oncall: no longer told about failed") {
			t.Errorf("%q", b.Loosened)
		}
		// A file that this version cannot read leaves the other one.
		run := w.life.s.newRun(w.stored(b.Number))
		if err := run.remember(t.Context(), "file", storedFile{Name: "belay.yaml", Text: "app: shop\nunknown: 1\n"}); err != nil {
			t.Fatal(err)
		}
		hear(b.Number, "map[oncall:[failed] team:[done]]")
		if _, err := w.life.s.Listening(t.Context(), "shop", 0); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%v", err) // it is both of them
		}
		if _, err := w.life.s.Listening(t.Context(), "shop", 99); domain.CodeOf(err) != domain.NotFound {
			t.Errorf("%v", err)
		}
	})
}

// teller is a notifier that only answers.
type teller struct{}

func (teller) OnCall(_ context.Context, app string, f *config.File) (bool, string, error) {
	return true, fmt.Sprintf("%s has %d channels", app, len(f.Notify)), nil
}

func (teller) Test(_ context.Context, app, channel string) (domain.ChannelTest, error) {
	return domain.ChannelTest{App: app, Channel: channel, OK: true}, nil
}

func (teller) List(_ context.Context, app string) ([]domain.ChannelStatus, error) {
	return []domain.ChannelStatus{{App: app, Channel: "oncall"}}, nil
}

func TestChannelsOfAnApp(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		if _, err := w.life.s.Channels(t.Context(), "shop"); domain.CodeOf(err) != domain.Unavailable {
			t.Errorf("%v", err)
		}
		w.life.s.ports.Notifications = teller{}
		w.yaml[sha("a")] = belayYAML + "notify: { oncall: [failed], team: [done] }\n"
		d := w.done("a")
		found := false
		for _, item := range d.Checklist {
			found = found || item.Item == "on-call notified" && item.OK && item.Detail == "shop has 2 channels"
		}
		if !found {
			t.Errorf("%+v", d.Checklist)
		}
		if list, err := w.life.s.Channels(t.Context(), "shop"); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
		if r, err := w.life.s.TestChannel(t.Context(), "shop", "oncall"); err != nil || !r.OK || r.Channel != "oncall" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
