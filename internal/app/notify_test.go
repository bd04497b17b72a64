package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/notify"
	"github.com/belay-cd/belay/internal/store"
)

// address is where every channel leads.
type address string

func (a address) Channel(context.Context, string, string) (domain.Secret, error) {
	return domain.NewSecret(string(a)), nil
}

// hearing is a file that tells one channel of failures.
type hearing struct{ listeners }

func (hearing) Listening(context.Context, string, int) (map[string][]string, error) {
	return map[string][]string{"oncall": {"failed"}}, nil
}

// An event of a delivery arrives at a receiver, through the real store, and is not sent again by the next process.
func TestAnEventReachesAReceiver(t *testing.T) {
	got := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
	}))
	defer receiver.Close()
	s := &Server{log: slog.New(slog.DiscardHandler)}
	var err error
	if s.store, err = store.Open(t.Context(), filepath.Join(t.TempDir(), "belay.db"), nil); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.store.Close() }()
	if err := s.store.EnsureApp(t.Context(), "shop", "x"); err != nil {
		t.Fatal(err)
	}
	d, _, err := s.store.CreateDelivery(t.Context(), domain.Delivery{ID: domain.NewID("dly_"), App: "shop", Commit: "4f2c81a9", State: domain.Running}, "k")
	if err != nil {
		t.Fatal(err)
	}
	live := func() (stop func()) {
		n := notify.New(notify.Config{Store: outbox{s.store}, Channels: address(receiver.URL), Deliveries: hearing{listeners{s}}, Sender: &notify.Receivers{}})
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); n.Run(ctx) }()
		for { // it begins with what comes after its start
			if _, known, err := s.store.NoticeCursor(t.Context()); known || err != nil {
				return func() { cancel(); <-over }
			}
			time.Sleep(time.Millisecond)
		}
	}
	stop := live()
	if _, err := s.store.AppendEvents(t.Context(), domain.Event{At: time.Now().UTC(), Type: "delivery.failed", App: "shop", Delivery: d.Number,
		Data: map[string]any{"sentence": "failed in build: x"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case body := <-got:
		if !strings.Contains(body, `"sentence":"failed in build: x"`) || !strings.Contains(body, `"commit":"4f2c81a9"`) {
			t.Error(body)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if list, err := s.store.PendingNotices(t.Context(), 0); err == nil && len(list) == 0 || time.Now().After(end) {
			break
		}
	}
	stop()
	stop = live()
	time.Sleep(50 * time.Millisecond)
	stop()
	if len(got) != 0 {
		t.Errorf("it came again: %s", <-got)
	}
}

func TestOnCallIsReadFromTheFile(t *testing.T) {
	n := notifications{notify.New(notify.Config{})}
	for _, f := range []*config.File{nil, {}, {Notify: map[string][]config.Event{"team": {"done"}}}} {
		if ok, why, err := n.OnCall(t.Context(), "shop", f); ok || err != nil || !strings.Contains(why, "names no channel oncall") {
			t.Errorf("%v %q %v", ok, why, err)
		}
	}
}

func TestAChannelsURLIsCheckedBeforeItIsStored(t *testing.T) {
	if err := checkChannel(domain.ChannelPlace("", "oncall"), domain.NewSecret("nonsense")); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("%v", err)
	}
	if err := checkChannel(domain.SecretPlace{App: "shop", Environment: domain.Staging, Name: "KEY"}, domain.NewSecret("nonsense")); err != nil {
		t.Errorf("%v", err)
	}
}
