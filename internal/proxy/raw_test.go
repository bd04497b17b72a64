package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// tally is what the raw client counted.
type tally struct {
	Done     map[string]int `json:"done"`
	Failures []string       `json:"failures"`
	Slowest  time.Duration  `json:"slowest"`
}

func (t *tally) total() (n int) {
	for _, d := range t.Done {
		n += d
	}
	return n
}

// rawClient speaks to the proxy over plain sockets, in a process of its own, without any retry: what fails is counted.
// Arguments: address, kinds. It ends when its standard input does.
func rawClient(args []string) int {
	c := rawLoad{addr: args[0], stop: make(chan struct{}), tally: tally{Done: map[string]int{}}}
	kinds := map[string]func() error{
		"keep": c.keepAlive, "single": c.single, "slow": c.slow, "post": c.post, "events": c.events, "socket": c.socket,
	}
	var running sync.WaitGroup
	for kind := range strings.SplitSeq(args[1], ",") {
		running.Go(func() { c.loop(kind, kinds[kind]) })
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	close(c.stop)
	running.Wait()
	_ = json.NewEncoder(os.Stdout).Encode(c.tally)
	return 0
}

type rawLoad struct {
	addr string
	stop chan struct{}
	mu   sync.Mutex
	tally
}

func (c *rawLoad) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

func (c *rawLoad) loop(kind string, f func() error) {
	for !c.stopped() {
		if err := f(); err != nil {
			c.mu.Lock()
			c.Failures = append(c.Failures, kind+": "+time.Now().Format("05.000")+" "+err.Error())
			c.mu.Unlock()
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func (c *rawLoad) done(kind string, took time.Duration) {
	c.mu.Lock()
	c.Done[kind]++
	c.Slowest = max(c.Slowest, took)
	c.mu.Unlock()
}

func (c *rawLoad) dial() (net.Conn, *bufio.Reader, error) {
	conn, err := net.DialTimeout("tcp", c.addr, 5*time.Second)
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	return conn, bufio.NewReader(conn), nil
}

// ask sends a request as it is and reads the answer to its end.
func ask(conn net.Conn, r *bufio.Reader, request string) (string, *http.Response, error) {
	if _, err := io.WriteString(conn, request); err != nil {
		return "", nil, fmt.Errorf("write: %w", err)
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return "", nil, fmt.Errorf("head: %w", err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", nil, fmt.Errorf("body: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("status %d %s", res.StatusCode, b)
	}
	return string(b), res, nil
}

const rawHead = " HTTP/1.1\r\nHost: shop.example\r\n"

func (c *rawLoad) keepAlive() error {
	conn, r, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	for !c.stopped() {
		start := time.Now()
		_, res, err := ask(conn, r, "GET /"+rawHead+"\r\n")
		if err != nil {
			return err
		}
		c.done("keep", time.Since(start))
		if res.Close {
			return nil
		}
		time.Sleep(8 * time.Millisecond)
	}
	return nil
}

func (c *rawLoad) single() error {
	return c.once("single", "GET /"+rawHead+"Connection: close\r\n\r\n")
}

func (c *rawLoad) slow() error {
	return c.once("slow", "GET /slow"+rawHead+"Connection: close\r\n\r\n")
}

func (c *rawLoad) once(kind, request string) error {
	conn, r, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	start := time.Now()
	if _, _, err = ask(conn, r, request); err != nil {
		return err
	}
	if kind != "slow" {
		c.done(kind, time.Since(start))
		time.Sleep(10 * time.Millisecond)
	} else {
		c.done(kind, 0)
	}
	return nil
}

func (c *rawLoad) post() error {
	conn, r, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	payload := strings.Repeat("x", 16<<10)
	for !c.stopped() {
		start := time.Now()
		got, res, err := ask(conn, r, "POST /length"+rawHead+"Content-Length: "+strconv.Itoa(len(payload))+"\r\n\r\n"+payload)
		if err != nil {
			return err
		}
		if got != strconv.Itoa(len(payload)) {
			return fmt.Errorf("the instance read %s bytes", got)
		}
		c.done("post", time.Since(start))
		if res.Close {
			return nil
		}
		time.Sleep(15 * time.Millisecond)
	}
	return nil
}

// events reads a stream until it ends, which must be between two events and with a last chunk.
func (c *rawLoad) events() error {
	conn, r, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /events"+rawHead+"\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	var last []byte
	buf := make([]byte, 4096)
	for !c.stopped() {
		n, err := res.Body.Read(buf)
		if last = append(last, buf[:n]...); len(last) > 8 {
			last = last[len(last)-8:]
		}
		if errors.Is(err, io.EOF) {
			if !bytes.HasSuffix(last, []byte("\n\n")) {
				return fmt.Errorf("stream ended inside an event: %q", last)
			}
			c.done("events", 0)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// socket echoes over a WebSocket until the proxy closes it with 1012.
func (c *rawLoad) socket() error {
	conn, r, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /socket"+rawHead+"Connection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	for !c.stopped() {
		if _, err := conn.Write([]byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'}); err != nil {
			return err
		}
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			return fmt.Errorf("frame: %w", err)
		}
		payload := make([]byte, head[1])
		if _, err := io.ReadFull(r, payload); err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		if head[0] == 0x88 {
			if code := binary.BigEndian.Uint16(payload); code != 1012 {
				return fmt.Errorf("closed with %d", code)
			}
			_, _ = conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4})
			c.done("socket", 0)
			return nil
		}
		if string(payload) != "hi" {
			return fmt.Errorf("echo %q", payload)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// load is a running raw client.
type load struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
}

func startLoad(t testing.TB, addr string, kinds ...string) *load {
	t.Helper()
	l := &load{t: t, cmd: exec.Command(os.Args[0], "raw-client", addr, strings.Join(kinds, ","))}
	l.cmd.Stdout, l.cmd.Stderr = &l.out, os.Stderr
	var err error
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.cmd.Process.Kill() })
	return l
}

// end stops the client and returns what it counted.
func (l *load) end() tally {
	l.t.Helper()
	_ = l.stdin.Close()
	if err := l.cmd.Wait(); err != nil {
		l.t.Fatal(err)
	}
	var got tally
	if err := json.Unmarshal(l.out.Bytes(), &got); err != nil {
		l.t.Fatal(err)
	}
	slices.Sort(got.Failures)
	return got
}
