package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// peer is another proxy, with a configuration that an experienced person would give it for this: upstream connections are
// kept, and access logs are off. It moves traffic as its manual says: a new configuration and a reload.
type peer struct {
	label, listen, file string
	config              func(listen string, addrs []string) string
	pid                 int
	reload              func() error
}

func (p *peer) name() string { return p.label }
func (p *peer) addr() string { return p.listen }

// pids are the processes that there are now: most peers start new ones to take a new configuration.
func (p *peer) pids() []int { return append([]int{p.pid}, pidsOf(beneath(p.pid))...) }

func (p *peer) write(addrs []string) error {
	return os.WriteFile(p.file, []byte(p.config(p.listen, addrs)), 0o644)
}

func (p *peer) point(addrs []string) error {
	if err := p.write(addrs); err != nil {
		return err
	}
	return p.reload()
}

// start writes the first configuration into a folder of its own and runs the program.
func (p *peer) start(b *testing.B, addrs []string, program string, args ...string) *peer {
	b.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		b.Fatalf("%v: scripts/bench-peers fetches it", err)
	}
	dir, err := os.MkdirTemp(built.dir, program+"-")
	if err != nil {
		b.Fatal(err)
	}
	p.listen, p.file = freeAddress(b), filepath.Join(dir, "config")
	if err := p.write(addrs); err != nil {
		b.Fatal(err)
	}
	for i := range args {
		args[i] = strings.NewReplacer("FILE", p.file, "DIR", dir).Replace(args[i])
	}
	p.pid = startProcess(b, path, args...)
	awaitAddress(b, p.listen)
	return p
}

func newNginx(b *testing.B, addrs []string) *peer {
	p := &peer{label: "nginx", config: func(listen string, addrs []string) string {
		return fmt.Sprintf(`daemon off; worker_processes 2; pid nginx.pid; error_log stderr;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000; client_body_buffer_size 128k;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream app { server %s; server %s; keepalive 64; keepalive_requests 100000000; }
  server { listen %s; location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } }
}
`, addrs[0], addrs[1], listen)
	}}
	p.reload = func() error { return unix.Kill(p.pid, unix.SIGHUP) }
	return p.start(b, addrs, "nginx", "-p", "DIR", "-c", "FILE", "-e", "stderr")
}

func newHAProxy(b *testing.B, addrs []string) *peer {
	p := &peer{label: "HAProxy", config: func(listen string, addrs []string) string {
		return fmt.Sprintf(`global
  nbthread 2
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
frontend front
  bind %s
  default_backend app
backend app
  http-reuse always
  server a %s
  server b %s
`, listen, addrs[0], addrs[1])
	}}
	p.reload = func() error { return unix.Kill(p.pid, unix.SIGUSR2) }
	return p.start(b, addrs, "haproxy", "-W", "-f", "FILE")
}

func newCaddy(b *testing.B, addrs []string) *peer {
	admin := freeAddress(b)
	p := &peer{label: "Caddy", config: func(listen string, addrs []string) string {
		return fmt.Sprintf(`{
  admin %s
  auto_https off
  log {
    level ERROR
  }
}
http://%s {
  bind 127.0.0.1
  reverse_proxy %s %s
}
`, admin, ":"+listen[strings.LastIndexByte(listen, ':')+1:], addrs[0], addrs[1])
	}}
	p.reload = func() error {
		path, err := exec.LookPath("caddy")
		if err != nil {
			return err
		}
		return exec.Command(path, "reload", "--config", p.file, "--adapter", "caddyfile", "--address", admin).Run()
	}
	return p.start(b, addrs, "caddy", "run", "--config", "FILE", "--adapter", "caddyfile")
}
