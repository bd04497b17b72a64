package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

func TestDrainWaitsForOpenRequests(t *testing.T) {
	p := startProxy(t)
	release := make(chan struct{})
	old := startBackend(t, "old", func(m *http.ServeMux) {
		m.HandleFunc("/wait", func(w http.ResponseWriter, _ *http.Request) {
			<-release
			_, _ = io.WriteString(w, "waited")
		})
	})
	fresh := startBackend(t, "new")
	a, b := backendOn("aaaaaaa", old.addr()), backendOn("bbbbbbb", fresh.addr())
	r := routeTo(a, nil, 0)
	p.put(r)
	drain := DrainRequest{App: "shop", Environment: domain.Production, Release: a.Release, Within: 5 * time.Second}
	ctx := context.Background()
	if _, err := p.client.Drain(ctx, drain); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("drain of a release with traffic: %v", err)
	}
	answer := make(chan string, 1)
	go func() { answer <- body(t, p.get("shop.example", "/wait")) }()
	open := func() int64 {
		list, err := p.client.InFlight(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Requests
	}
	eventually(t, time.Second, "the request is open", func() bool { return open() == 1 })
	r = routeTo(b, nil, 0)
	r.Epoch = 2
	p.put(r)
	short := drain
	short.Within = 30 * time.Millisecond
	if got, err := p.client.Drain(ctx, short); err != nil || got.Open != 1 {
		t.Errorf("short drain: %+v, %v", got, err)
	}
	done := make(chan DrainResult, 1)
	go func() {
		got, err := p.client.Drain(ctx, drain)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	select {
	case got := <-done:
		t.Fatalf("drained with an open request: %+v", got)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if got := <-done; got.Open != 0 || got.LastRequest.IsZero() {
		t.Errorf("drain: %+v", got)
	}
	if got := <-answer; got != "waited" {
		t.Errorf("the open request got %q", got)
	}
}

func TestDrainOfOneInstance(t *testing.T) {
	p := startProxy(t)
	a, b := startBackend(t, "a"), startBackend(t, "b")
	r := routeTo(backendOn("aaaaaaa", a.addr(), b.addr()), nil, 0)
	p.put(r)
	d := DrainRequest{App: "shop", Environment: domain.Production, Release: r.Stable.Release, Addr: a.addr(), Within: time.Second}
	if _, err := p.client.Drain(context.Background(), d); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("drain of an instance with traffic: %v", err)
	}
	r.Stable.Instances, r.Epoch = r.Stable.Instances[1:], 2
	p.put(r)
	if got, err := p.client.Drain(context.Background(), d); err != nil || got.Open != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A stream was buffered, so that its first event came with its last.
func TestScar_kamalproxy_34(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x", func(m *http.ServeMux) {
		m.HandleFunc("/once", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: first\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		m.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
	})
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	p.get("shop.example", "/silent") // returns with the head, though nothing follows
	res := p.get("shop.example", "/once")
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	if err != nil || line != "data: first\n" {
		t.Errorf("%q, %v", line, err)
	}
	p.stop() // ends both streams
}

// A WebSocket did not outlive a deploy, or ended without a word.
func TestScar_kamalproxy_46(t *testing.T) {
	p := startProxy(t)
	old, fresh := startBackend(t, "old", mixed), startBackend(t, "new", mixed)
	a := backendOn("aaaaaaa", old.addr())
	r := routeTo(a, nil, 0)
	p.put(r)
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "GET /socket"+rawHead+"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(conn)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", res, err)
	}
	say := func(want string) {
		t.Helper()
		_, _ = conn.Write([]byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'})
		got := make([]byte, len(want))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	say("\x81\x02hi")
	r = routeTo(backendOn("bbbbbbb", fresh.addr()), nil, 0)
	r.Epoch = 2
	p.put(r)
	start := time.Now()
	done := make(chan DrainResult, 1)
	go func() {
		got, _ := p.client.Drain(context.Background(), DrainRequest{App: "shop", Environment: domain.Production, Release: a.Release, Within: 50 * time.Millisecond, Streams: 1500 * time.Millisecond})
		done <- got
	}()
	time.Sleep(200 * time.Millisecond)
	say("\x81\x02hi") // it lives longer than requests may
	frame := make([]byte, 4)
	if _, err := io.ReadFull(in, frame); err != nil || string(frame) != "\x88\x02\x03\xf4" {
		t.Fatalf("the end is %q, %v, want a close with 1012", frame, err)
	}
	if took := time.Since(start); took < 300*time.Millisecond || took > 1500*time.Millisecond {
		t.Errorf("closed after %s, not in the last four fifths of its time", took)
	}
	_, _ = conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4})
	if got := <-done; got.Ended != 1 || got.Open != 0 {
		t.Errorf("drain: %+v", got)
	}
}

func TestEventsEndBetweenTwoEvents(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{"data: 1\n\n", "data: 2\n\n", "data: 1\n\n"},
		{"data: 1\n\nda", "ta: 2\n\ndata: 3\n\n", "data: 1\n\ndata: 2\n\n"},
		{"data: 1\r\n\r", "\ndata: 2\r\n\r\n", "data: 1\r\n\r\n"},
		{"id: 1\n", "data: 1\n\nid: 2\n", "id: 1\ndata: 1\n\n"},
	} {
		r, w := io.Pipe()
		e := &eventBody{ReadCloser: r}
		got := make(chan string)
		passed := make(chan struct{})
		go func() {
			b := make([]byte, len(c.before))
			_, _ = io.ReadFull(e, b)
			close(passed)
			rest, _ := io.ReadAll(e)
			got <- string(b) + string(rest)
		}()
		_, _ = io.WriteString(w, c.before)
		<-passed
		e.finish(2 * time.Second)
		go func() { _, _ = io.WriteString(w, c.after) }()
		if s := <-got; s != c.want {
			t.Errorf("%q then %q ends as %q", c.before, c.after, s)
		}
		_ = r.Close()
	}
}

func TestFramesAreFollowed(t *testing.T) {
	long := "\x82\x7e\x01\x00" + strings.Repeat("x", 256)
	longer := "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + strings.Repeat("y", 65536)
	masked := "\x81\x82mask" + "hi"
	all := "\x81\x00" + long + masked + longer + "\x89\x01p"
	for step := 1; step < 400; step += 13 {
		var f frames
		for rest := all; rest != ""; {
			n := min(step, len(rest))
			f.pass([]byte(rest[:n]))
			rest = rest[n:]
		}
		if !f.between() {
			t.Fatalf("in steps of %d the end is no end of a frame", step)
		}
	}
	var f frames
	if n := f.passOne([]byte(masked + "rest")); n != len(masked) || !f.between() {
		t.Errorf("one frame has %d bytes, want %d", n, len(masked))
	}
}
