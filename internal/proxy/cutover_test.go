package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// mixed are the endpoints of an app with everything that a cutover can hurt.
func mixed(m *http.ServeMux) {
	m.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		for range 10 {
			time.Sleep(15 * time.Millisecond)
			_, _ = io.WriteString(w, "x")
		}
	})
	m.HandleFunc("POST /length", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, strconv.FormatInt(n, 10))
	})
	m.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; r.Context().Err() == nil; i++ {
			_, _ = fmt.Fprintf(w, "id: %d\n", i)
			w.(http.Flusher).Flush()
			time.Sleep(2 * time.Millisecond)
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			time.Sleep(3 * time.Millisecond)
		}
	})
	m.HandleFunc("/socket", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		echo(conn, rw.Reader)
	})
}

// echo sends each small frame back until a close.
func echo(w io.Writer, r *bufio.Reader) {
	head := make([]byte, 6)
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		payload := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		for i := range payload {
			payload[i] ^= head[2+i%4]
		}
		if _, err := w.Write(append([]byte{head[0], byte(len(payload))}, payload...)); err != nil || head[0]&0x0f == 8 {
			return
		}
	}
}

// cutovers replaces the release so often under load; the leaving instance is stopped after each drain.
func cutovers(t *testing.T, count int) {
	p := startProxy(t)
	leaving := startBackend(t, "0", mixed)
	stable := backendOn("0000000", leaving.addr())
	r := routeTo(stable, nil, 0)
	p.put(r)
	load := startLoad(t, p.addr, "keep", "keep", "keep", "single", "single", "slow", "slow", "post", "post", "events", "events", "socket", "socket")
	for i := 1; i <= count; i++ {
		coming := startBackend(t, strconv.Itoa(i), mixed)
		next := backendOn(fmt.Sprintf("%07d", i), coming.addr())
		r.Stable, r.Next, r.Rollout = stable, next, "rol_"+strconv.Itoa(i)
		for _, weight := range []int{0, 5_000, domain.WeightAll} {
			r.Weight, r.Epoch = weight, r.Epoch+1
			p.put(r)
			time.Sleep(60 * time.Millisecond)
		}
		r.Stable, r.Next, r.Rollout, r.Weight, r.Epoch = next, nil, "", 0, r.Epoch+1
		p.put(r)
		got, err := p.client.Drain(context.Background(), DrainRequest{
			App: r.App, Environment: r.Environment, Release: stable.Release, Within: 200 * time.Millisecond, Streams: 200 * time.Millisecond,
		})
		if err != nil || got.Open != 0 {
			t.Fatalf("drain %d: %+v, %v", i, got, err)
		}
		leaving.CloseClientConnections()
		leaving.Close()
		leaving, stable = coming, next
	}
	got := load.end()
	t.Logf("%d cutovers: %v, slowest %s", count, got.Done, got.Slowest)
	if len(got.Failures) > 0 {
		t.Errorf("%d of %d requests failed: %q", len(got.Failures), got.total(), got.Failures[:min(10, len(got.Failures))])
	}
	for _, kind := range []string{"keep", "single", "slow", "post", "events", "socket"} {
		if got.Done[kind] < count/2 {
			t.Errorf("only %d of %s", got.Done[kind], kind)
		}
	}
}

func TestNoRequestFailsInCutovers(t *testing.T) {
	t.Parallel()
	cutovers(t, 20)
}

func TestHotUpgradeLosesNoRequest(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x", mixed)
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	load := startLoad(t, p.addr, "keep", "keep", "single", "single", "slow", "post")
	for range 3 {
		was := p.health()
		signalHolder(t, was.Holder)
		eventually(t, 5*time.Second, "another worker", func() bool {
			h, err := p.client.Health(context.Background())
			return err == nil && h.PID != was.PID
		})
		time.Sleep(100 * time.Millisecond)
	}
	got := load.end()
	t.Logf("3 upgrades: %v, slowest %s", got.Done, got.Slowest)
	if len(got.Failures) > 0 {
		t.Errorf("%d of %d requests failed: %q", len(got.Failures), got.total(), got.Failures[:min(10, len(got.Failures))])
	}
}

func TestKilledWorkerLosesOnlyWhatWasInFlight(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x", mixed)
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	load := startLoad(t, p.addr, "single", "single", "single", "single")
	for range 3 {
		time.Sleep(100 * time.Millisecond)
		p.killWorker()
	}
	time.Sleep(100 * time.Millisecond)
	got := load.end()
	t.Logf("3 kills: %v, slowest %s, failures %q", got.Done, got.Slowest, got.Failures)
	if most := 3 * 4; len(got.Failures) > most {
		t.Errorf("%d requests failed, at most %d were in flight", len(got.Failures), most)
	}
	if got.Slowest > time.Second {
		t.Errorf("a connection in the backlog waited %s", got.Slowest)
	}
}
