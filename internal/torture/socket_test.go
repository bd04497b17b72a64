package torture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/belay-cd/belay/internal/domain"
)

// held is a connection that stays open on one release, and how it ended.
type held struct {
	what, release string
	ended         time.Time
	code          websocket.StatusCode
	rest          string // of a stream: what came after the last whole event
	err           error
	traded        int // messages or events
	done          chan struct{}
}

func (h *held) String() string {
	return fmt.Sprintf("%s on %s: %d messages, code %d, rest %q, %v", h.what, h.release, h.traded, h.code, h.rest, h.err)
}

func (h *held) open() bool {
	select {
	case <-h.done:
		return false
	default:
		return true
	}
}

// openSocket dials a WebSocket and sends something ten times a second until the other side ends it.
func (l *lane) openSocket(ctx context.Context) *held {
	l.t.Helper()
	conn, res, err := websocket.Dial(ctx, "ws://"+l.http+"/ws", &websocket.DialOptions{Host: l.app + ".localhost"})
	if err != nil {
		l.t.Fatal(err)
	}
	h := &held{what: "socket", release: res.Header.Get("X-Belay-Release"), done: make(chan struct{})}
	go func() {
		defer close(h.done)
		for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
			if h.err = trade(ctx, conn, fmt.Sprint("message ", h.traded)); h.err != nil {
				h.ended, h.code = time.Now(), websocket.CloseStatus(h.err)
				return
			}
			h.traded++
		}
	}()
	return h
}

// trade sends a message and expects it back. Where the write finds the connection closed, the read says why.
func trade(ctx context.Context, conn *websocket.Conn, text string) error {
	wrote := conn.Write(ctx, websocket.MessageText, []byte(text))
	_, got, err := conn.Read(ctx)
	switch {
	case err != nil:
		return err
	case wrote != nil:
		return wrote
	case string(got) != text:
		return fmt.Errorf("%q came back for %q", got, text)
	}
	return nil
}

// openStream reads events until the other side ends them.
func (l *lane) openStream(ctx context.Context) *held {
	l.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.http+"/events?n=100000", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Host = l.app + ".localhost"
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	h := &held{what: "stream", release: res.Header.Get("X-Belay-Release"), done: make(chan struct{})}
	go func() {
		defer close(h.done)
		defer res.Body.Close()
		for in := bufio.NewReader(res.Body); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				h.ended, h.rest = time.Now(), h.rest+line
				if !errors.Is(err, io.EOF) {
					h.err = err
				}
				return
			}
			if h.rest += line; strings.HasSuffix(h.rest, "\n\n") {
				h.rest = ""
				h.traded++
			}
		}
	}()
	return h
}

// openAll opens three sockets and three streams, and waits until each has traded something.
func (l *lane) openAll(ctx context.Context) []*held {
	var all []*held
	for range 3 {
		all = append(all, l.openSocket(ctx), l.openStream(ctx))
	}
	return all
}

// endedProperly asserts that all of them were told to come back, within a time, on the release that left.
func endedProperly(t *testing.T, when string, all []*held, release string, since time.Time, within time.Duration) {
	t.Helper()
	var last time.Duration
	for _, h := range all {
		select {
		case <-h.done:
		case <-time.After(time.Until(since.Add(within))):
			t.Errorf("%s: a %s on %s is open after %s", when, h.what, h.release, within)
			continue
		}
		last = max(last, h.ended.Sub(since))
		switch {
		case h.release != release:
			t.Errorf("%s: not on %s: %s", when, release, h)
		case h.what == "socket" && h.code != websocket.StatusServiceRestart:
			t.Errorf("%s: it did not end with 1012: %s", when, h)
		case h.what == "stream" && (h.err != nil || h.rest != ""):
			t.Errorf("%s: it did not end with a whole event: %s", when, h)
		case h.traded < 2:
			t.Errorf("%s: it traded nothing: %s", when, h)
		}
	}
	t.Logf("%s: the last of %d connections ended after %s", when, len(all), last.Round(10*time.Millisecond))
}

// WebSockets and streams stay on their release until it retires, and are then told to come back: at their leisure after a
// cutover, within five seconds on a rollback. Plain requests that are open finish in both.
func TestSocketsAndStreamsOverCutovers(t *testing.T) {
	w := newWorld(t, "1s", "")
	l := w.newLane(t, kind{app: "sockets", strategy: "blue-green", rollout: "strategy: blue-green", monitor: "2s"}, &ledger{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	good := scenario{name: "good", mode: "do=good", ends: done}
	l.deliver(good)
	rounds := 1
	if long {
		rounds = 10
	}
	for range rounds {
		before := domain.ShortCommit(l.stable.Commit)
		all := l.openAll(ctx)
		l.ship(good)
		r := l.awaitNext()
		for _, h := range all {
			if !h.open() {
				t.Errorf("the shift ended it: %s", h)
			}
		}
		if d := l.await(); d.State != domain.DoneState {
			t.Fatal(describe(d))
		} else {
			l.stable = d
		}
		endedProperly(t, "cutover", all, before, time.Now(), time.Second) // its release has drained and is gone
		if r.Next.Commit != l.stable.Commit {
			t.Errorf("%s is stable", l.stable.Commit)
		}
	}
	l.file = strings.Replace(l.file, "for: 2s", "for: 60s", 1)
	for range rounds {
		l.ship(good)
		r := l.awaitNext()
		all := l.openAll(ctx)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { l.askSlowly(ctx, label(r.Next)) })
		}
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		if code, out := l.belay("rollback", "production", "--reason", "torture"); code != 0 {
			t.Fatalf("rollback ended with %d: %s", code, out)
		}
		endedProperly(t, "rollback", all, label(r.Next), began, 6*time.Second)
		wg.Wait()
		if d := l.await(); d.State != domain.RolledBackState {
			t.Errorf("rolled back is wanted: %s", describe(d))
		}
		if code, out := l.belay("thaw", "--app", l.app, "--reason", "the test goes on"); code != 0 {
			t.Fatalf("thaw ended with %d: %s", code, out)
		}
	}
	l.allBack()
}

// awaitNext waits until next has all traffic.
func (l *lane) awaitNext() (r domain.Route) {
	l.t.Helper()
	eventually(l.t, time.Minute, "next has the traffic", func() error {
		var err error
		if r, err = l.routeOf(); err == nil && !onNext(r) {
			err = fmt.Errorf("it has weight %d", r.Weight)
		}
		return err
	})
	return r
}

// askSlowly asks for an answer that takes two seconds, and wants it from a release.
func (l *lane) askSlowly(ctx context.Context, release string) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.http+"/slow?ms=2000", nil)
	if err != nil {
		l.t.Error(err)
		return
	}
	r.Host = l.app + ".localhost"
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		l.t.Errorf("a request that was open on the rollback failed: %v", err)
		return
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || string(got) != "slow\n" || res.Header.Get("X-Belay-Release") != release {
		l.t.Errorf("a request that was open on the rollback got %d of %s, %q, %v", res.StatusCode, res.Header.Get("X-Belay-Release"), got, err)
	}
}
