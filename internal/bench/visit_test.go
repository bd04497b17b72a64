package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kinds of requests.
const (
	small = "GET of 15 bytes"
	large = "GET of 64 KiB"
	post  = "POST of 16 KiB"
)

// postBytes is the body of a POST.
const postBytes = 16 << 10

// visited is what a client saw.
type visited struct {
	Answered int64   `json:"answered"` // with 200, and whole
	Failed   int64   `json:"failed"`   // resets, cut answers, and every other status
	Seconds  float64 `json:"seconds"`
	Why      string  `json:"why,omitempty"` // of one failure
}

// visitMain is a client in a process of its own. It keeps its connections and never tries again: what a server breaks, it
// counts. Like every client it sees whether a connection was closed before it writes; what is closed in that moment, or
// later, is a failure. It ends after n requests, or with its input.
func visitMain(args []string) int {
	flags := flag.NewFlagSet("visit", flag.ContinueOnError)
	v := &visit{}
	flags.StringVar(&v.addr, "addr", "", "")
	kind := flags.String("kind", small, "")
	n := flags.Int64("n", 0, "requests, 0 until the input ends")
	conns := flags.Int("conns", 16, "connections")
	flags.DurationVar(&v.pace, "pace", 0, "time between two requests of a connection")
	if flags.Parse(args) != nil {
		return 2
	}
	v.request = requestOf(*kind)
	v.left.Store(*n)
	v.endless = *n == 0
	if v.endless {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			v.over.Store(true)
		}()
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range *conns {
		wg.Go(v.stay)
	}
	wg.Wait()
	v.seen.Seconds = time.Since(began).Seconds()
	v.seen.Answered, v.seen.Failed = v.answered.Load(), v.failed.Load()
	if json.NewEncoder(os.Stdout).Encode(v.seen) != nil {
		return 1
	}
	return 0
}

func requestOf(kind string) []byte {
	head := "Host: bench.localhost\r\nUser-Agent: visit\r\n"
	switch kind {
	case large:
		return []byte("GET /large HTTP/1.1\r\n" + head + "\r\n")
	case post:
		body := bytes.Repeat([]byte("x"), postBytes)
		return append([]byte("POST / HTTP/1.1\r\n"+head+"Content-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body...)
	default:
		return []byte("GET / HTTP/1.1\r\n" + head + "\r\n")
	}
}

type visit struct {
	addr             string
	request          []byte
	pace             time.Duration
	endless          bool
	left             atomic.Int64
	over             atomic.Bool
	answered, failed atomic.Int64
	mu               sync.Mutex
	seen             visited
}

// more reports whether another request is wanted.
func (v *visit) more() bool {
	if v.endless {
		return !v.over.Load()
	}
	return v.left.Add(-1) >= 0
}

// stay is one visitor with one connection at a time.
func (v *visit) stay() {
	var conn net.Conn
	var reader *bufio.Reader
	for v.more() {
		var err error
		if conn != nil && v.pace > 0 && closed(conn) {
			_ = conn.Close()
			conn = nil
		}
		if conn == nil {
			if conn, err = net.DialTimeout("tcp", v.addr, 5*time.Second); err == nil {
				reader = bufio.NewReaderSize(conn, 32<<10)
			}
		}
		again := false
		if err == nil {
			again, err = v.ask(conn, reader)
		}
		if err != nil {
			v.fail(err)
		} else {
			v.answered.Add(1)
		}
		if !again && conn != nil {
			_ = conn.Close()
			conn = nil
		}
		if v.pace > 0 {
			time.Sleep(v.pace)
		}
	}
	if conn != nil {
		_ = conn.Close()
	}
}

// closed reports whether the other side has closed an idle connection.
func closed(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	var seen error
	err = raw.Read(func(fd uintptr) bool {
		_, _, seen = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return true
	})
	return err != nil || !errors.Is(seen, unix.EAGAIN)
}

func (v *visit) fail(err error) {
	v.failed.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen.Why = err.Error()
}

// ask sends one request and reports whether the connection may carry another.
func (v *visit) ask(conn net.Conn, reader *bufio.Reader) (again bool, err error) {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(v.request); err != nil {
		return false, err
	}
	res, err := http.ReadResponse(reader, nil)
	if err != nil {
		return false, err
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return false, err
	}
	if res.StatusCode != http.StatusOK {
		return !res.Close, fmt.Errorf("status %d", res.StatusCode)
	}
	return !res.Close, nil
}

// visitors are a running client.
type visitors struct {
	cmd   *exec.Cmd
	input io.Closer
	out   bytes.Buffer
}

func startClient(b *testing.B, args ...string) *visitors {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	c := &visitors{cmd: exec.Command(self, append([]string{"visit"}, args...)...)}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, os.Stderr
	if c.input, err = c.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return c
}

// wait returns what the client saw when it has ended by itself; stop makes it end.
func (c *visitors) wait(b *testing.B) visited {
	b.Helper()
	err := c.cmd.Wait()
	var seen visited
	if err == nil {
		err = json.Unmarshal(c.out.Bytes(), &seen)
	}
	if err != nil {
		b.Fatalf("client: %v: %s", err, c.out.String())
	}
	return seen
}

func (c *visitors) stop(b *testing.B) visited {
	b.Helper()
	_ = c.input.Close()
	return c.wait(b)
}
