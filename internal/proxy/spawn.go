package proxy

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Config says how a proxy is started.
type Config struct {
	Binary  string   // of belay; default: this one
	Socket  string   // unix socket of the control API
	Table   string   // file that keeps the routes
	HTTP    []string // addresses, host:port
	HTTPS   []string
	Certs   string   // folder of certificates, "" for none
	Log     string   // log file
	Trusted []string // networks whose forwarding headers are believed
	Silent  bool     // answers do not say which release gave them
}

// spawnWithin is how long a proxy may take to answer for the first time.
const spawnWithin = 10 * time.Second

// Spawn makes sure that a proxy answers on the socket: the one that runs, or a new one in a session of its own, which
// survives this process. It returns when the proxy answers. An error is Unavailable and says what the proxy said.
func Spawn(ctx context.Context, c Config) error {
	client := NewClient(c.Socket)
	defer client.Close()
	if _, err := client.Health(ctx); err == nil {
		return nil
	}
	if c.Binary == "" {
		var err error
		if c.Binary, err = os.Executable(); err != nil {
			return domain.Errorf(domain.Unavailable, "proxy: %w", err)
		}
	}
	for _, dir := range []string{filepath.Dir(c.Socket), filepath.Dir(c.Table)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return domain.Errorf(domain.Unavailable, "proxy: %w", err)
		}
	}
	ended, err := c.start()
	if err != nil {
		return domain.Errorf(domain.Unavailable, "proxy: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, spawnWithin)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if _, err := client.Health(ctx); err == nil {
			return nil
		}
		select {
		case <-ended:
			if _, err := client.Health(ctx); err == nil {
				return nil // another process was faster
			}
			return domain.Errorf(domain.Unavailable, "proxy ended at once: %s", lastLine(c.Log)).WithHint("see %s", c.Log)
		case <-ctx.Done():
			return domain.Errorf(domain.Unavailable, "proxy does not answer: %w", context.Cause(ctx)).WithHint("see %s", c.Log)
		case <-poll.C:
		}
	}
}

// start runs the holder in a session of its own. The channel is closed when it ends.
func (c Config) start() (<-chan struct{}, error) {
	o := options{
		socket: c.Socket, table: c.Table, http: strings.Join(c.HTTP, ","), https: strings.Join(c.HTTPS, ","), certs: c.Certs,
		log: c.Log, trusted: strings.Join(c.Trusted, ","), silent: c.Silent,
	}
	cmd := exec.Command(c.Binary, append([]string{"proxy"}, o.args()...)...)
	cmd.Env = environment(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.Log != "" {
		out, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it said is in its log
		close(ended)
	}()
	return ended, nil
}

// lastLine is the last line of a log, for an error.
func lastLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "no log"
	}
	text := strings.TrimSpace(string(data))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// environment leaves of the daemon's variables what a proxy can need. The others may be secrets, of the daemon or of apps.
func environment(all []string) []string {
	return slices.DeleteFunc(all, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "TZ", "LANG", "GODEBUG", "GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GOTRACEBACK", "GOCOVERDIR":
			return false
		}
		return true
	})
}
