package demo

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// LoadMain is the traffic of the demo, run as a process of its own: `belay load -addr … -host …`. It speaks HTTP/1.1 over
// plain connections and never tries again, so that each failure that a visitor would see is counted. For each request it
// prints one line: begin in Unix nanoseconds, duration in nanoseconds, status (0: no complete answer), the release that
// answered ("-": not said), method and path. It ends when its input does, or at TERM.
func LoadMain(args []string) int {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	addr := flags.String("addr", "", "address of the proxy")
	host := flags.String("host", "", "host to ask for")
	rate := flags.Int("rate", 100, "requests per second")
	if err := flags.Parse(args); err != nil || *addr == "" || *host == "" || *rate < 1 {
		fmt.Fprintln(os.Stderr, "usage: load -addr HOST:PORT -host NAME [-rate N]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// ctrl-c reaches the whole terminal; the demo decides when the traffic ends, so that its last answers are counted.
	signal.Ignore(os.Interrupt)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // any end of the input is the end
		cancel()
	}()
	l := load{addr: *addr, host: *host, out: bufio.NewWriter(os.Stdout)}
	if err := l.run(ctx, *rate); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 1
	}
	return 0
}

const (
	visitors       = 10
	requestTimeout = 10 * time.Second
	shopItems      = 20
)

// load is a number of visitors who ask at a steady pace.
type load struct {
	addr, host string
	mu         sync.Mutex
	out        *bufio.Writer
	err        error
}

func (l *load) run(ctx context.Context, rate int) error {
	var wg sync.WaitGroup
	pause := time.Duration(visitors) * time.Second / time.Duration(rate)
	for n := range visitors {
		wg.Go(func() {
			// The visitors come evenly spread. One of five opens a connection for each request.
			v := &visitor{load: l, number: n, fresh: n%5 == 4}
			defer v.hangUp()
			v.stay(ctx, time.Duration(n)*pause/visitors, pause)
		})
	}
	wg.Wait()
	return l.err
}

// write prints the line of one request at once: the demo reads along.
func (l *load) write(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.out.WriteString(line)
	if err == nil {
		err = l.out.Flush()
	}
	if l.err == nil {
		l.err = err
	}
}

// visitor asks one request after the other.
type visitor struct {
	load   *load
	number int
	fresh  bool
	asked  int
	conn   net.Conn
	reader *bufio.Reader
}

func (v *visitor) stay(ctx context.Context, first, pause time.Duration) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	next := time.Now().Add(first)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		v.visit()
		next = next.Add(pause)
		if late := time.Since(next); late > pause {
			next = time.Now() // a slow answer is not followed by a burst
		}
		timer.Reset(time.Until(next))
	}
}

// request returns the n-th request of the mix: of four, two read an item, one orders one and one reads the page or
// searches. Over twenty rounds each visitor touches each item equally often.
func request(n int) (method, path, body string) {
	item := n/4%shopItems + 1
	switch n % 4 {
	case 0:
		return http.MethodGet, fmt.Sprintf("/api/items/%d", item), ""
	case 1:
		return http.MethodPost, "/api/cart", fmt.Sprintf(`{"id": %d}`, item)
	case 2:
		return http.MethodGet, fmt.Sprintf("/api/items/%d", (item+6)%shopItems+1), ""
	default:
		if n%8 == 3 {
			return http.MethodGet, "/", ""
		}
		return http.MethodGet, "/api/search?q=tea", ""
	}
}

// visit asks once and writes down what came.
func (v *visitor) visit() {
	// Each visitor begins at another item, so that any second of the traffic looks like any other.
	method, path, body := request(v.asked + v.number*8)
	v.asked++
	begin := time.Now()
	status, release, err := v.ask(method, path, body)
	if err != nil || v.fresh {
		v.hangUp()
	}
	v.load.write(fmt.Sprintf("%d %d %d %s %s %s\n", begin.UnixNano(), time.Since(begin).Nanoseconds(), status, release, method, path))
}

// ask sends one request and reads its whole answer. An error means that there was none.
func (v *visitor) ask(method, path, body string) (status int, release string, err error) {
	release = "-"
	if v.conn == nil {
		if v.conn, err = net.DialTimeout("tcp", v.load.addr, requestTimeout); err != nil { //nolint:noctx // a request that began is finished
			v.conn = nil
			return 0, release, err
		}
		v.reader = bufio.NewReader(v.conn)
	}
	if err := v.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return 0, release, err
	}
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: belay-demo\r\n", method, path, v.load.host)
	if body != "" {
		fmt.Fprintf(&head, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	if v.fresh {
		head.WriteString("Connection: close\r\n")
	}
	if _, err := io.WriteString(v.conn, head.String()+"\r\n"+body); err != nil {
		return 0, release, err
	}
	answer, err := http.ReadResponse(v.reader, &http.Request{Method: method})
	if err != nil {
		return 0, release, err
	}
	defer answer.Body.Close()
	if by := answer.Header.Get("X-Belay-Release"); by != "" {
		release = by
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0, release, err
	}
	if answer.Close {
		v.hangUp()
	}
	return answer.StatusCode, release, nil
}

func (v *visitor) hangUp() {
	if v.conn != nil {
		v.conn.Close()
		v.conn, v.reader = nil, nil
	}
}
