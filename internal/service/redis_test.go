package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/build/command"
)

// redis is the Redis of this machine.
func redis(t testing.TB) Installed {
	t.Helper()
	v, err := Redis(t.Context(), command.DefaultPath)
	if err != nil {
		t.Skip("redis is not installed here")
	}
	return v
}

// tell sends commands to a Redis server and returns the first line of each answer.
func tell(t testing.TB, address string, commands ...string) []string {
	t.Helper()
	conn, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var said []string
	for _, c := range commands {
		if _, err := fmt.Fprintf(conn, "%s\r\n", c); err != nil {
			t.Fatal(err)
		}
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, strings.TrimSpace(line))
	}
	return said
}

func TestEveryRunGetsARedisOfItsOwn(t *testing.T) {
	m := manager(t)
	v := redis(t)
	if !strings.HasPrefix(v.Version, fmt.Sprint(v.Major)) || v.Major < 5 {
		t.Errorf("version %+v", v)
	}
	var urls [2]*url.URL
	for i := range urls {
		text, stop, err := m.StartRedis(t.Context(), "shop", v)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := stop(context.Background()); err != nil {
				t.Error(err)
			}
			if listens(must2(t, text)) {
				t.Error("it still runs")
			}
			if left, err := filepath.Glob(filepath.Join(Folder(m.cfg.Data, "shop"), "redis-*", "data", "*")); err != nil || i == 0 && len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		}()
		if urls[i], err = url.Parse(text); err != nil {
			t.Fatal(err)
		}
	}
	a, b := urls[0], urls[1]
	secret, _ := a.User.Password()
	other, _ := b.User.Password()
	said := tell(t, a.Host, "PING", "AUTH "+other, "AUTH "+secret, "SET a 1", "CONFIG GET save")
	if strings.Join(said, " ") != "-NOAUTH Authentication required. -WRONGPASS invalid username-password pair or user is disabled. +OK +OK *2" {
		t.Errorf("it says %q", said)
	}
	if said := tell(t, b.Host, "AUTH "+other, "EXISTS a"); said[1] != ":0" {
		t.Errorf("the two runs share data: %q", said)
	}
}

func must2(t testing.TB, text string) int {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscan(u.Port(), &port); err != nil {
		t.Fatal(err)
	}
	return port
}

func TestRedisThatDoesNotStartSaysWhy(t *testing.T) {
	m := manager(t)
	v := redis(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("cancelled by a person"))
	if _, _, err := m.StartRedis(ctx, "shop", v); err == nil {
		t.Error("it started for a delivery that was cancelled")
	}
	if left, err := filepath.Glob(filepath.Join(Folder(m.cfg.Data, "shop"), "redis-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
