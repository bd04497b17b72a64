// Package service provides the servers that tests need: a PostgreSQL server per app with a fresh, migrated database for
// each run, and a Redis server per run. Everything in it is test data: it may be deleted at any time and is made again.
//
// The servers run confined, as the app's build user, with process ids of their own. Each lives exactly as long as the
// daemon at most: its keeper reads from a pipe that only the daemon holds, so the kernel ends it with the daemon whatever
// the daemon dies of. Nothing is adopted, and nothing is ended by its name.
package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/sandbox"
)

// DefaultIdle is how long a PostgreSQL server waits for the next run before it is stopped.
const DefaultIdle = 30 * time.Minute

// Config says where servers run and as whom.
type Config struct {
	Data     string // the daemon's folder
	Home     string // home of the daemon's user, of which servers see the toolchains only
	Path     string // PATH in which Redis is looked for
	Sandbox  *sandbox.Sandbox
	Accounts sandbox.Accounts
	Cgroups  []string      // control groups that bound builds and tests together
	Idle     time.Duration // DefaultIdle
	Log      *slog.Logger
}

// Manager owns the servers of tests.
type Manager struct {
	cfg Config

	mu      sync.Mutex
	closed  bool
	servers map[string]*postgres // by app and major version
	redis   map[*process]bool
}

// New returns a Manager. Nothing is started before it is needed.
func New(cfg Config) *Manager {
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Manager{cfg: cfg, servers: map[string]*postgres{}, redis: map[*process]bool{}}
}

// Close stops all servers.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	servers, redis := m.servers, m.redis
	m.servers, m.redis = nil, nil
	m.mu.Unlock()
	var wait sync.WaitGroup
	errs := make(chan error, len(servers)+len(redis))
	for _, s := range servers {
		wait.Go(func() { errs <- s.close(ctx) })
	}
	for p := range redis {
		wait.Go(func() { errs <- p.stop(ctx) })
	}
	wait.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

// Sweep removes what runs of an earlier daemon left behind.
func (m *Manager) Sweep(ctx context.Context) error {
	left, err := filepath.Glob(Folder(m.cfg.Data, "*") + "/redis-*")
	if err != nil {
		return err
	}
	for _, dir := range left {
		log, err := lockedLog(ctx, filepath.Join(dir, "log"))
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(dir), log.Close()); err != nil {
			return err
		}
	}
	return nil
}

// errClosed is the answer once the daemon stops.
var errClosed = errors.New("the server is being stopped")

// Customer is whose tests need servers. Code of a commit that is not merged shares no server with deliveries: nothing that
// it does can reach what a delivery's tests start from.
type Customer struct {
	App      string
	Unmerged bool
}

// folder is what stands behind the names of its servers' folders.
func (c Customer) folder() string {
	if c.Unmerged {
		return "-unmerged"
	}
	return ""
}

// Folder is where the servers of an app live.
func Folder(data, app string) string { return filepath.Join(data, "work", app, "services") }

// home is a folder of one server: its owner can reach what is inside, and nobody else.
type home struct {
	dir     string // the daemon's: log, and what is known of the server
	inside  string // the server's own
	account sandbox.Account
}

// room makes the folder of a server.
func (m *Manager) room(ctx context.Context, app, name string) (home, error) {
	account, err := m.cfg.Accounts.Of(ctx, app, sandbox.Build)
	if err != nil {
		return home{}, err
	}
	h := home{dir: filepath.Join(Folder(m.cfg.Data, app), name), account: account}
	h.inside = filepath.Join(h.dir, "data")
	if err := os.MkdirAll(h.dir, 0o711); err != nil {
		return home{}, err
	}
	return h, h.make()
}

// make makes the server's own folder, where it is missing.
func (h home) make() error {
	if err := os.Mkdir(h.inside, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(h.inside, h.account.UID, h.account.GID)
}

// write puts a file that only the server can read into its folder, and returns its path. The folder is new or the
// server is down.
func (h home) write(name, text string) (string, error) {
	path := filepath.Join(h.inside, name)
	root, err := os.OpenRoot(h.inside)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	if err == nil && os.Geteuid() == 0 {
		err = f.Chown(h.account.UID, h.account.GID)
	}
	return path, errors.Join(err, f.Close())
}

// password returns a new one, which needs no escaping anywhere.
func password() string { return rand.Text() }

// unavailable words the error of a server that did not come up.
func unavailable(what string, err error, said string) error {
	if said != "" {
		return fmt.Errorf("%s did not start: %w: %s", what, err, said)
	}
	return fmt.Errorf("%s did not start: %w", what, err)
}
