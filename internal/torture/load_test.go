package torture

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// loadMain is the client, in a process of its own: it speaks HTTP/1.1 over plain connections and never tries again. For
// each request it prints one line: begin and end in Unix nanoseconds, status (0: no whole answer), kind, release, error.
// It ends with its input.
func loadMain(args []string) int {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	addr, host := flags.String("addr", "", ""), flags.String("host", "", "")
	rate := flags.Int("rate", 100, "requests per second")
	if flags.Parse(args) != nil {
		return 2
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	l := &load{addr: *addr, host: *host, out: bufio.NewWriter(os.Stdout)}
	var wg sync.WaitGroup
	visitors := max(10, *rate/10)
	pause := time.Duration(visitors) * time.Second / time.Duration(*rate)
	for n := range visitors {
		wg.Go(func() { (&visitor{load: l, number: n}).stay(stop, pause) })
	}
	for n := range 4 {
		wg.Go(func() { (&visitor{load: l, number: n, stream: true}).stay(stop, 100*time.Millisecond) })
	}
	<-stop
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Second / 2): // only long streams are open
	}
	return 0
}

type load struct {
	addr, host string
	mu         sync.Mutex
	out        *bufio.Writer
}

func (l *load) write(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format, args...)
	_ = l.out.Flush() // the reader went away: the input ends next
}

type visitor struct {
	load   *load
	number int
	stream bool
	asked  int
	conn   net.Conn
	reader *bufio.Reader
	fresh  bool   // ask for the end of the connection
	head   string // further lines of each request's header
	cookie string // what Belay gave it, where it keeps cookies
	keeps  bool
	said   string // what the app said of itself in the last answer
	mix    func(n int) (kind, method, path string, body []byte)
}

func (v *visitor) stay(stop <-chan struct{}, pause time.Duration) {
	defer v.hangUp()
	next := time.Now().Add(pause * time.Duration(v.number%10) / 10)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Until(next)):
		}
		v.visit()
		if next = next.Add(pause); time.Since(next) > pause {
			next = time.Now() // no burst after a slow answer
		}
	}
}

// visit sends one request of the mix.
func (v *visitor) visit() {
	kind, method, path, body := "get", http.MethodGet, "/", []byte(nil)
	n := v.asked
	v.asked++
	v.fresh = v.number%5 == 4
	switch {
	case v.mix != nil:
		kind, method, path, body = v.mix(n)
	case v.stream && v.number%2 == 0:
		kind, path = "stream", "/events?n=20"
	case v.stream:
		kind, path = "longstream", "/events?n=1200"
	case n%10 == 3 && v.number%3 == 0:
		kind, path = "slow", "/slow?ms=300"
	case n%4 == 1:
		kind, method, path = "post", http.MethodPost, fmt.Sprintf("/echo?id=%d-%d-%d", os.Getpid(), v.number, n)
		body = bytes.Repeat([]byte(strconv.Itoa(n%10)), 2000+n%5*4000)
	}
	begin := time.Now()
	status, release, err := v.ask(method, path, body)
	why := "-"
	if v.said != "" {
		why = v.said
	}
	if err != nil {
		why = strings.ReplaceAll(fmt.Sprintf("%q", err.Error()), " ", "_")
		status = 0
	}
	if err != nil || v.fresh {
		v.hangUp()
	}
	v.load.write("%d %d %d %s %s %s\n", begin.UnixNano(), time.Now().UnixNano(), status, kind, release, why)
}

// usable reports whether a kept connection is still open, as every client looks before it writes.
func (v *visitor) usable() bool {
	if v.conn == nil {
		return false
	}
	_ = v.conn.SetReadDeadline(time.Now().Add(50 * time.Microsecond))
	_, err := v.reader.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func (v *visitor) ask(method, path string, body []byte) (status int, release string, err error) {
	release, v.said = "-", ""
	if !v.usable() {
		v.hangUp()
		if v.conn, err = net.DialTimeout("tcp", v.load.addr, 10*time.Second); err != nil {
			v.conn = nil
			return 0, release, fmt.Errorf("dial: %w", err)
		}
	}
	v.reader = bufio.NewReader(v.conn)
	_ = v.conn.SetDeadline(time.Now().Add(90 * time.Second))
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, v.load.host)
	if body != nil {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if v.fresh {
		head += "Connection: close\r\n"
	}
	head += v.head
	if v.cookie != "" {
		head += "Cookie: " + v.cookie + "\r\n"
	}
	if _, err = v.conn.Write(append([]byte(head+"\r\n"), body...)); err != nil {
		return 0, release, fmt.Errorf("write: %w", err)
	}
	answer, err := http.ReadResponse(v.reader, &http.Request{Method: method})
	if err != nil {
		return 0, release, fmt.Errorf("head: %w", err)
	}
	defer answer.Body.Close()
	if by := answer.Header.Get("X-Belay-Release"); by != "" {
		release = by
	}
	v.said = answer.Header.Get("X-Planted")
	for _, c := range answer.Cookies() {
		if v.keeps {
			v.cookie = c.Name + "=" + c.Value
		}
	}
	got, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return 0, release, fmt.Errorf("body: %w", err)
	case answer.StatusCode == http.StatusOK && body != nil && !bytes.Equal(got, body):
		return 0, release, fmt.Errorf("echo of %d bytes has %d", len(body), len(got))
	case v.stream && answer.StatusCode == http.StatusOK && !bytes.HasSuffix(got, []byte("\n\n")):
		return 0, release, errors.New("stream cut within an event")
	}
	if answer.Close {
		v.hangUp()
	}
	return answer.StatusCode, release, nil
}

func (v *visitor) hangUp() {
	if v.conn != nil {
		_ = v.conn.Close()
		v.conn = nil
	}
}

// request is one line of the client.
type request struct {
	begin, end    time.Time
	status        int
	kind, release string
	why           string
}

func (r request) failed() bool { return r.status != http.StatusOK }

func (r request) String() string {
	return fmt.Sprintf("%s %s +%s %d %s %s", r.begin.Format("15:04:05.000"), r.kind, r.end.Sub(r.begin).Round(time.Millisecond),
		r.status, r.release, r.why)
}

// traffic is a running client and what it saw.
type traffic struct {
	cmd   *exec.Cmd
	input io.Closer
	ended chan struct{}
	mu    sync.Mutex
	seen  []request
}

// startTraffic sends the mix to production until stop.
func (w *world) startTraffic(rate int) *traffic {
	w.t.Helper()
	tr := &traffic{}
	tr.run(w.t, func(r request) { tr.seen = append(tr.seen, r) }, "load", "-addr", w.http, "-host", productionHost, "-rate", strconv.Itoa(rate))
	return tr
}

// run starts a client of a kind in a process of its own; each is told of every request, one at a time.
func (tr *traffic) run(t *testing.T, each func(request), args ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tr.ended = make(chan struct{})
	tr.cmd = exec.Command(self, args...)
	tr.cmd.Stderr = os.Stderr
	if tr.input, err = tr.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := tr.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := startChild(tr.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(tr.ended)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			f := strings.Fields(scan.Text())
			if len(f) != 6 {
				continue
			}
			begin, _ := strconv.ParseInt(f[0], 10, 64)
			end, _ := strconv.ParseInt(f[1], 10, 64)
			status, _ := strconv.Atoi(f[2])
			tr.mu.Lock()
			each(request{time.Unix(0, begin), time.Unix(0, end), status, f[3], f[4], f[5]})
			tr.mu.Unlock()
		}
		_ = waitChild(tr.cmd)
	}()
	t.Cleanup(func() { tr.stop() })
}

// stop ends the client after the requests that are open, but for long streams, and returns all that it saw.
func (tr *traffic) stop() []request {
	_ = tr.input.Close()
	<-tr.ended
	return tr.sofar()
}

func (tr *traffic) sofar() []request {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]request(nil), tr.seen...)
}

// failures returns the failed requests that no excuse covers.
func failures(all []request, excused func(request) bool) []request {
	var bad []request
	for _, r := range all {
		if r.failed() && (excused == nil || !excused(r)) {
			bad = append(bad, r)
		}
	}
	return bad
}

// noFailures asserts that every request was answered.
func noFailures(t *testing.T, all []request, least int, excused func(request) bool) {
	t.Helper()
	bad := failures(all, excused)
	kinds := map[string]int{}
	for _, r := range all {
		kinds[r.kind]++
	}
	t.Logf("%d requests %v, %d failed and may not, %d failed in all", len(all), kinds, len(bad), len(failures(all, nil)))
	for i, r := range bad {
		if i == 10 {
			break
		}
		t.Errorf("failed: %s", r)
	}
	if len(all) < least {
		t.Errorf("only %d requests were sent, %d are wanted: the machine is too slow to say anything", len(all), least)
	}
}
