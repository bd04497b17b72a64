package service

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/supervise"
)

// killPostmaster kills the first process of the server, as nothing of Belay does.
func killPostmaster(t *testing.T, s *postgres) {
	t.Helper()
	for _, pid := range supervise.Tree(s.proc.cmd.Process.Pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasPrefix(string(text), filepath.Join(s.v.Dir, "postgres")+"\x00") {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no postmaster found")
}

// daemon is a daemon that makes a template which takes long. It says where its server is and waits to be killed.
func daemon(dir string) int {
	m := New(config(dir))
	ctx := context.Background()
	v := Postgres(ctx, command.DefaultPath)[0]
	d, err := m.Fresh(ctx, Customer{App: "shop"}, v, Migrations{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	url, _, err := m.StartRedis(ctx, "shop", mustRedis(ctx))
	fmt.Println(d.Port, url, err)
	slow, err := Migrations{Tool: "sql", Folder: filepath.Join(dir, "slow"), Variable: "DATABASE_URL"}.Read()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_, err = m.Fresh(ctx, Customer{App: "shop"}, v, slow)
	fmt.Println(err)
	return 1
}

func mustRedis(ctx context.Context) Installed {
	v, err := Redis(ctx, command.DefaultPath)
	if err != nil {
		panic(err)
	}
	return v
}

func TestADaemonThatIsKilledTakesItsServersAlong(t *testing.T) {
	t.Parallel()
	v := newest(t)
	redis(t)
	cfg := config(folder(t))
	write(t, filepath.Join(cfg.Data, "slow/migrations/1.sql"), "create table half (id int); select pg_sleep(1000);")
	cmd := self(t, "daemon", cfg.Data)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var port int
	var url string
	if _, err := fmt.Sscan(line, &port, &url); err != nil {
		t.Fatal(line, err)
	}
	redisPort, err := strconv.Atoi(strings.TrimSuffix(url[strings.LastIndex(url, ":")+1:], "/0"))
	if err != nil {
		t.Fatal(err)
	}
	if !listens(port) || !listens(redisPort) {
		t.Fatal("the servers do not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The next daemon waits for the end of what the first one left, whose template was half made.
	m := New(cfg)
	defer func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := m.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(Folder(cfg.Data, "shop"), "redis-*")); len(left) > 0 || listens(redisPort) {
		t.Errorf("left of redis: %v", left)
	}
	d, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, Migrations{})
	if err != nil {
		t.Fatal(err)
	}
	if listens(port) && d.Port != port {
		t.Error("the server of the first daemon still runs")
	}
	if d.Made {
		t.Error("the complete template was lost")
	}
	must(t, d.URL(), "select count(*) from pg_database where datname like 'making%' or datname like 'run%'", "1")
	slow := migrations(t, "sql", map[string]string{"migrations/1.sql": "create table whole (id int);"})
	whole, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, slow)
	if err != nil {
		t.Fatal(err)
	}
	must(t, whole.URL(), "select count(*) from pg_tables where schemaname = 'public'", "1")
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a test
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
