package proxy

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/belay-cd/belay/internal/domain"
)

// streaming are the endpoints of an app with answers of every length, its WebSockets by a library.
func streaming(m *http.ServeMux) {
	m.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, data, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})
	m.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) { // its answer takes long to begin
		wait(r, w)
		_, _ = io.WriteString(w, "late")
	})
	m.HandleFunc("/rows", func(w http.ResponseWriter, r *http.Request) { // its answer takes long to end
		_, _ = io.WriteString(w, "rows,")
		w.(http.Flusher).Flush()
		wait(r, w)
		_, _ = io.WriteString(w, "end")
	})
	mixed(m)
}

func wait(r *http.Request, w http.ResponseWriter) {
	d, err := time.ParseDuration(r.URL.Query().Get("for"))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// socketEnd is how a WebSocket ended for its client.
type socketEnd struct {
	code websocket.StatusCode
	at   time.Time
}

// connect opens a WebSocket and reports its end.
func (r *rig) connect(ends chan<- socketEnd) *websocket.Conn {
	r.t.Helper()
	conn, _, err := websocket.Dial(r.t.Context(), "ws://"+r.addr+"/ws", &websocket.DialOptions{Host: "shop.example"}) //nolint:bodyclose // the library has no body to close
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.CloseNow() })
	if err := conn.Write(r.t.Context(), websocket.MessageText, []byte("hi")); err != nil {
		r.t.Fatal(err)
	}
	if _, data, err := conn.Read(r.t.Context()); err != nil || string(data) != "hi" {
		r.t.Fatalf("echo %q, %v", data, err)
	}
	go func() {
		for {
			if _, _, err := conn.Read(context.Background()); err != nil {
				ends <- socketEnd{websocket.CloseStatus(err), time.Now()}
				return
			}
		}
	}()
	return conn
}

// ended waits for the end of a WebSocket.
func ended(t *testing.T, ends <-chan socketEnd) socketEnd {
	t.Helper()
	select {
	case e := <-ends:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("a WebSocket was never closed")
		return socketEnd{}
	}
}

// answers sends a GET in the background, and hands over its whole answer or what went wrong.
func (r *rig) answers(path string) <-chan string {
	got := make(chan string, 1)
	began := make(chan struct{})
	go func() {
		req, _ := http.NewRequest(http.MethodGet, "http://"+r.addr+path, nil)
		req.Host, req.Close = "shop.example", true
		if strings.HasPrefix(path, "/late") {
			close(began)
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		if !strings.HasPrefix(path, "/late") {
			close(began)
		}
		b, err := io.ReadAll(bufio.NewReader(res.Body))
		if err != nil {
			b = append(b, err.Error()...)
		}
		got <- string(b)
	}()
	<-began
	return got
}

// awaitOpen waits until so many requests and streams are open on a release.
func (r *rig) awaitOpen(release string, want int64) {
	r.t.Helper()
	eventually(r.t, 3*time.Second, "all are open", func() bool {
		list, err := r.client.InFlight(context.Background())
		if err != nil {
			r.t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(f InFlight) bool { return f.Release == release })
		return i >= 0 && list[i].Requests+list[i].Streams == want
	})
}

// After a rollback WebSockets and streams of next end within its short drain, spread, and open requests finish.
func TestRollbackEndsStreamsSpreadWithinItsDrain(t *testing.T) {
	p := startProxy(t)
	stable, next := startBackend(t, "stable", streaming), startBackend(t, "next", streaming)
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", next.addr()), domain.WeightAll)
	p.put(r)
	const sockets = 30
	ends := make(chan socketEnd, sockets)
	for range sockets {
		p.connect(ends)
	}
	events := []<-chan string{p.answers("/events"), p.answers("/events"), p.answers("/events")}
	late, rows := p.answers("/late?for=600ms"), p.answers("/rows?for=700ms")
	p.awaitOpen(r.Next.Release, sockets+5)
	r.Weight, r.Latched, r.Epoch = 0, true, 2
	p.put(r)

	const within = 2 * time.Second
	start := time.Now()
	got, err := p.client.Drain(context.Background(), DrainRequest{App: "shop", Environment: domain.Production, Release: r.Next.Release, Within: within})
	took := time.Since(start)
	if err != nil || got.Open != 0 || got.Ended != sockets+3 || took > within+time.Second {
		t.Errorf("drain: %+v, %v after %s", got, err, took)
	}
	first, last := start.Add(time.Hour), start
	for range sockets {
		e := ended(t, ends)
		if e.code != websocket.StatusServiceRestart {
			t.Errorf("closed with %d", e.code)
		}
		first, last = minTime(first, e.at), maxTime(last, e.at)
	}
	t.Logf("%d sockets closed from %s to %s, drained after %s", sockets, first.Sub(start), last.Sub(start), took)
	if first.Sub(start) < within/5 || last.Sub(start) > within || last.Sub(first) < within/3 {
		t.Errorf("closed from %s to %s: not spread over %s", first.Sub(start), last.Sub(start), within)
	}
	for _, e := range events {
		if s := <-e; !strings.HasSuffix(s, "\n\n") {
			t.Errorf("a stream ends as %q", s[max(0, len(s)-40):])
		}
	}
	if a, b := <-late, <-rows; a != "late" || b != "rows,end" {
		t.Errorf("open requests got %q and %q", a, b)
	}
	if got := p.get("shop.example", "/"); body(t, got) != "stable" {
		t.Error("stable does not serve")
	}
}

// When a release retires its requests may wait for an answer no longer than Within; what already flows goes on.
func TestRetirementLetsStreamsGoOnLongerThanRequests(t *testing.T) {
	p := startProxy(t)
	old, fresh := startBackend(t, "old", streaming), startBackend(t, "new", streaming)
	r := routeTo(backendOn("aaaaaaa", old.addr()), nil, 0)
	p.put(r)
	ends := make(chan socketEnd, 1)
	conn := p.connect(ends)
	rows, late := p.answers("/rows?for=700ms"), p.answers("/late?for=5s")
	p.awaitOpen("rel_aaaaaaa", 3)
	r = routeTo(backendOn("bbbbbbb", fresh.addr()), nil, 0)
	r.Epoch = 2
	p.put(r)
	type end struct {
		DrainResult
		err  error
		took time.Duration
	}
	done := make(chan end, 1)
	start := time.Now()
	go func() {
		got, err := p.client.Drain(context.Background(), DrainRequest{
			App: "shop", Environment: domain.Production, Release: "rel_aaaaaaa", Addr: old.addr(), Within: 150 * time.Millisecond,
		})
		done <- end{got, err, time.Since(start)}
	}()
	time.Sleep(200 * time.Millisecond) // longer than requests may wait
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("still here")); err != nil {
		t.Errorf("the socket did not outlive the requests: %v", err)
	}
	if got := <-rows; got != "rows,end" {
		t.Errorf("an answer that had begun ended as %q", got)
	}
	if e := ended(t, ends); e.code != websocket.StatusServiceRestart || e.at.Sub(start) < 300*time.Millisecond || e.at.Sub(start) > 1500*time.Millisecond {
		t.Errorf("socket closed with %d after %s", e.code, e.at.Sub(start))
	}
	got := <-done
	if got.err != nil || got.Ended != 1 || got.Open != 1 || got.took > 2500*time.Millisecond {
		t.Errorf("drain: %+v, %v after %s, want the one request without an answer open", got.DrainResult, got.err, got.took)
	}
	p.stop()
	<-late
}

func TestHowLongStreamsGoOn(t *testing.T) {
	ctl := controlIn(t, filepath.Join(t.TempDir(), "table.json"))
	r := routeTo(backendOn("aaaaaaa", "127.0.0.1:1"), backendOn("bbbbbbb", "127.0.0.1:2"), 5_000)
	put := func() {
		t.Helper()
		r.Epoch++
		if _, err := ctl.put(r); err != nil {
			t.Fatal(err)
		}
	}
	streams := func(release string, within, streams time.Duration) time.Duration {
		t.Helper()
		d := DrainRequest{App: "shop", Environment: domain.Production, Release: release, Within: within, Streams: streams}
		if _, err := ctl.toDrain(&d); err != nil {
			t.Fatal(err)
		}
		return d.Streams
	}
	put()
	r.Weight, r.Latched = 0, true
	put()
	for _, rel := range ctl.releases {
		rel.last.Store(time.Now().UnixNano()) // one that had no request is forgotten at once
	}
	if got := streams("rel_bbbbbbb", 5*time.Second, 0); got != 5*time.Second {
		t.Errorf("rolled back: %s", got)
	}
	r = routeTo(r.Stable, nil, 0)
	r.Epoch = 3
	put() // nobody names next any more
	if got := streams("rel_bbbbbbb", 5*time.Second, 0); got != 5*time.Second {
		t.Errorf("rolled back, and left the table: %s", got)
	}
	again := routeTo(r.Stable, backendOn("bbbbbbb", "127.0.0.1:2"), domain.WeightAll)
	again.Rollout, again.Epoch = "rol_2", 4
	r = again
	put()
	r = routeTo(r.Next, nil, 0)
	r.Epoch = 5
	put()
	for within, want := range map[time.Duration]time.Duration{30 * time.Second: 5 * time.Minute, time.Minute: 5 * time.Minute, time.Second: 10 * time.Second} {
		if got := streams("rel_aaaaaaa", within, 0); got != want {
			t.Errorf("retired with %s: %s, want %s", within, got, want)
		}
	}
	if got := streams("rel_aaaaaaa", 30*time.Second, time.Second); got != time.Second {
		t.Errorf("asked for: %s", got)
	}
	for within, want := range map[time.Duration]ending{
		5 * time.Minute: {4*time.Minute + 30*time.Second, 4*time.Minute + 57*time.Second, 3 * time.Second},
		5 * time.Second: {time.Second, 4 * time.Second, time.Second},
		0:               {0, 0, drainMargin},
	} {
		if got := endingOf(within); got != want {
			t.Errorf("ends of %s: %+v, want %+v", within, got, want)
		}
	}
	_, err := ctl.toDrain(&DrainRequest{App: "shop", Environment: domain.Production, Release: "rel_bbbbbbb"})
	if domain.CodeOf(err) != domain.Conflict {
		t.Errorf("with traffic: %v", err)
	}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
