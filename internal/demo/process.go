package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

const readyWithin = 30 * time.Second

// server is `belay serve` as a child process.
type server struct {
	command      *exec.Cmd
	socket       string
	traffic, api string
	ended        chan struct{}
}

func (s *server) address() string { return "unix://" + s.socket }

// startServer starts serve on free ports and returns when its socket takes connections.
func startServer(ctx context.Context, binary, dir string) (*server, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "serve.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	data := filepath.Join(dir, "data")
	s := &server{socket: filepath.Join(data, "run", "belay.sock"), traffic: ports[0], api: ports[1], ended: make(chan struct{})}
	// Not CommandContext: with --stay it outlives the demo.
	s.command = exec.Command(binary, "serve", "--demo", "--data", data, "--http", s.traffic, "--https", "", "--listen", s.api) //nolint:noctx // see above
	s.command.Stdout, s.command.Stderr = log, log
	// A session of its own: ctrl-c on the terminal must not reach it, since the demo ends it in order.
	s.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	go func() {
		defer close(s.ended)
		s.command.Wait() //nolint:errcheck // how it ended stands in its log
	}()
	err = s.ready(ctx)
	return s, err
}

func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", s.socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return domain.Errorf(domain.Failed, "belay serve ended before it was ready: %s", s.command.ProcessState)
		case <-ctx.Done():
			return domain.Errorf(domain.Failed, "belay serve was not ready within %s: %w", readyWithin, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freePorts returns addresses on loopback that were free a moment ago.
func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
		if err != nil {
			return nil, err
		}
		defer listener.Close() //nolint:gocritic // all stay open until the last is found, so that no two are the same
		addrs = append(addrs, listener.Addr().String())
	}
	return addrs, nil
}

// traffic is LoadMain as a child process, and what it saw.
type traffic struct {
	command *exec.Cmd
	input   io.Closer
	tally   tally
	ended   chan error // the end of its output, once
	stopped bool
	result  error
}

func startTraffic(load []string, addr, host, dir string) (*traffic, error) {
	args := slices.Concat(load[1:], []string{"-addr", addr, "-host", host, "-rate", strconv.Itoa(requestsPerSecond)})
	t := &traffic{command: exec.Command(load[0], args...), ended: make(chan error, 1)} //nolint:noctx // stop ends it
	log, err := os.Create(filepath.Join(dir, "load.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	t.command.Stderr = log
	if t.input, err = t.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := t.command.Start(); err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	go func() { t.ended <- t.tally.read(out) }()
	return t, nil
}

// running returns an error if the traffic ended by itself: what was not sent cannot fail.
func (t *traffic) running() error {
	select {
	case err := <-t.ended:
		t.ended <- err
		return domain.Errorf(domain.Failed, "the traffic ended early")
	default:
		return nil
	}
}

// stop ends the traffic and returns when its last line is read. A second call returns the same.
func (t *traffic) stop() error {
	if t.stopped {
		return t.result
	}
	t.stopped = true
	err := t.input.Close()
	select {
	case ended := <-t.ended:
		err = errors.Join(err, ended)
	case <-time.After(requestTimeout + 5*time.Second):
		err = errors.Join(err, t.command.Process.Kill(), <-t.ended)
	}
	if wait := t.command.Wait(); wait != nil {
		err = errors.Join(err, fmt.Errorf("traffic: %w", wait))
	}
	t.result = err
	return err
}

// tail returns the last lines of a file.
func tail(name string, lines int) (string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n"), nil
}
