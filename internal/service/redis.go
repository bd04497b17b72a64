package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The limits of a Redis server.
const (
	redisMemory  = 256 << 20 // bytes of data, then writes fail
	redisProcess = 2 * redisMemory
)

// StartRedis starts a Redis server for one run of an app and returns its URL. Nothing of it is kept on disk. Stop ends it
// and removes its folder.
func (m *Manager) StartRedis(ctx context.Context, app string, v Installed) (url string, stop func(context.Context) error, err error) {
	secret := password()
	h, err := m.room(ctx, app, "redis-"+strings.ToLower(secret[:12]))
	if err != nil {
		return "", nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return "", nil, err
	}
	binary := filepath.Join(v.Dir, "redis-server")
	if _, err := os.Stat(binary); err != nil {
		binary = filepath.Join(v.Dir, "valkey-server")
	}
	config, err := h.write("redis.conf", redisConfig(h, port, secret))
	if err != nil {
		return "", nil, err
	}
	p, err := m.launch(ctx, h, program{argv: []string{binary, config}, memory: redisProcess, end: "KILL"}) // it has nothing to save
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(h.dir))
	}
	stop = func(ctx context.Context) error {
		m.mu.Lock()
		delete(m.redis, p)
		m.mu.Unlock()
		return errors.Join(p.stop(ctx), os.RemoveAll(h.dir))
	}
	if err = m.keep(p); err == nil {
		err = p.answers(ctx, port, secret)
	}
	if err != nil {
		err = unavailable("redis "+v.Version, err, p.said())
		return "", nil, errors.Join(err, stop(context.WithoutCancel(ctx)))
	}
	return fmt.Sprintf("redis://:%s@127.0.0.1:%d/0", secret, port), stop, nil
}

// redisConfig is a server that keeps nothing and lets nobody in without the password.
func redisConfig(h home, port int, secret string) string {
	return fmt.Sprintf(`bind 127.0.0.1
port %d
requirepass %s
dir %s
maxmemory %d
save ""
appendonly no
databases 16
`, port, secret, h.inside, redisMemory)
}

// keep remembers a server that Close must stop.
func (m *Manager) keep(p *process) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed
	}
	m.redis[p] = true
	return nil
}

// answerWithin is how long Redis has to answer.
const answerWithin = 20 * time.Second

// answers waits until the server lets us in.
func (p *process) answers(ctx context.Context, port int, secret string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, fmt.Errorf("no answer within %s", answerWithin))
	defer cancel()
	for {
		err := ping(ctx, port, secret)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return errEnded
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var errEnded = errors.New("it ended")

func ping(ctx context.Context, port int, secret string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", secret); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	for _, want := range []string{"+OK", "+PONG"} {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if line = strings.TrimSpace(line); line != want {
			return fmt.Errorf("it says %s", line)
		}
	}
	return nil
}
