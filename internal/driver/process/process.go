// Package process is the driver that runs instances as supervised processes of this machine.
//
// All that it knows of an instance stands in the instance's folder, instances/APP/ENV/RELEASE/ROLE-INDEX below the data
// folder: what was asked for (instance.json), what the shim does (state.json), the log. A driver that starts anew adopts
// what it finds there, so the daemon may die at any moment.
package process

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

// Artifacts gives local copies of artifacts.
type Artifacts interface {
	// Unpack returns the folder that holds the files of the image digest, unpacked and readable by everybody. It does
	// nothing when it is there already, and it needs no network for what was prepared once.
	Unpack(ctx context.Context, digest string) (dir string, err error)
}

// Config is what a driver needs. Zero values but those of Data and Artifacts are filled in by New.
type Config struct {
	Data      string // the daemon's folder
	Self      string // binary with the verbs shim, sandbox and static; default: the running one
	Artifacts Artifacts
	Sandbox   *sandbox.Sandbox
	Accounts  sandbox.Accounts // default: users.json in Data
	Home      string           // of the daemon's user; default: $HOME
	Path      string           // PATH of the instances; default: $PATH
	// Vault seals the secret variables of what is recorded on the disk, and opens them again; nil: they lie there as they are.
	Vault interface {
		SealWorkload(app string, env domain.Environment, w domain.Workload) domain.Workload
		OpenWorkload(app string, env domain.Environment, w domain.Workload) (domain.Workload, error)
	}
	// Command turns the run line of a workload into arguments; env is the whole environment of the instance, KEY=value.
	Command func(run string, env []string) ([]string, error)
	Grace   time.Duration // between TERM and KILL; default 10 s
	Backoff supervise.Backoff
	Log     supervise.LogPolicy
	// Ports is the range that instances listen in, first and last. It lies below the range from which the kernel takes
	// ports for outgoing connections, so that a port is still free when its instance starts again.
	Ports [2]int
	// Hung is how many probes in a row a healthy instance must fail before it is started again; default 3, negative is
	// never.
	Hung   int
	Logger *slog.Logger
}

func (c Config) filled() (Config, error) {
	data, err := filepath.Abs(c.Data)
	if err == nil {
		data, err = filepath.EvalSymlinks(data)
	}
	if err != nil {
		return c, fmt.Errorf("data folder: %w", err)
	}
	c.Data = data
	if c.Self == "" {
		if c.Self, err = os.Executable(); err != nil {
			return c, fmt.Errorf("find own binary: %w", err)
		}
	}
	if c.Sandbox == nil {
		c.Sandbox = &sandbox.Sandbox{Self: c.Self}
	}
	if c.Accounts.File == "" {
		c.Accounts.File = filepath.Join(data, "users.json")
	}
	if c.Home == "" {
		c.Home = os.Getenv("HOME")
	}
	if c.Path == "" {
		c.Path = os.Getenv("PATH")
	}
	if c.Command == nil {
		c.Command = command.Argv
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	if c.Backoff == (supervise.Backoff{}) {
		c.Backoff = supervise.Backoff{
			First: supervise.Duration(time.Second), Longest: supervise.Duration(time.Minute),
			Reset: supervise.Duration(time.Minute),
		}
	}
	if c.Log == (supervise.LogPolicy{}) {
		c.Log = supervise.LogPolicy{Size: 100 << 20, Keep: 3, Every: supervise.Duration(5 * time.Second)}
	}
	if c.Ports == [2]int{} {
		c.Ports = [2]int{20000, 32767}
	}
	if c.Hung == 0 {
		c.Hung = hung
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Driver runs instances as processes. Its methods may be called at the same time.
type Driver struct {
	cfg   Config
	group string // control group below which the instances of this data folder live

	life   context.Context // of the watchers, which outlive the calls that begin them
	end    context.CancelFunc
	wg     sync.WaitGroup
	watch  *watcher
	probes feed[domain.ProbeResult]
	status feed[domain.InstanceStatus]

	execs     atomic.Int64 // one-offs so far: each has a control group of its own
	mu        sync.Mutex
	instances map[room]map[domain.InstanceID]*instance
	ports     map[int]domain.InstanceID
	turns     map[place]turn
}

// New returns a driver on a data folder. It starts and adopts nothing by itself: see Adopt.
func New(cfg Config) (*Driver, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	w, err := newWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch folders: %w", err)
	}
	sum := sha256.Sum256([]byte(cfg.Data))
	d := &Driver{
		cfg: cfg, group: "belay-" + hex.EncodeToString(sum[:4]), watch: w,
		instances: map[room]map[domain.InstanceID]*instance{}, ports: map[int]domain.InstanceID{}, turns: map[place]turn{},
	}
	d.life, d.end = context.WithCancel(context.Background())
	d.wg.Go(func() { w.run() })
	return d, nil
}

// Close stops watching. The instances go on running.
func (d *Driver) Close() error {
	d.end()
	err := d.watch.close()
	d.wg.Wait()
	d.probes.close()
	d.status.close()
	return err
}

// Prepare makes sure that an artifact can be started without anything from outside.
func (d *Driver) Prepare(ctx context.Context, digest string) error {
	_, err := d.cfg.Artifacts.Unpack(ctx, digest)
	return err
}

// Start makes the instance run and returns its status when it is healthy. A running one is adopted and awaited. It returns
// an error when the instance is not healthy within Probe.StartWithin, when it crashed three times by then, when it is
// stopped meanwhile, or at once when ctx ends. In none of these cases is the instance stopped: that is the caller's.
func (d *Driver) Start(ctx context.Context, inst domain.Instance) (domain.InstanceStatus, error) {
	it := d.instance(inst.InstanceID)
	if err := it.launch(ctx, inst); err != nil {
		return it.current(), err
	}
	return it.awaitHealthy(ctx)
}

// Stop ends the instance for good: TERM to its process group, KILL after the grace. It is not started again, also after
// a reboot. An instance that does not run or is not known is no error.
func (d *Driver) Stop(ctx context.Context, id domain.InstanceID) error {
	return d.instance(id).stop(ctx)
}

// List returns the instances of an app in an environment that run or should run, in the order of their names.
func (d *Driver) List(_ context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error) {
	var found []domain.InstanceStatus
	for _, it := range d.in(app, env) {
		if s := it.current(); s.State != domain.Stopped {
			found = append(found, s)
		}
	}
	return found, nil
}

// Probes returns each answer of each probe until ctx ends. While an instance starts, it is asked more often than its
// probe says; answers that only say "not yet" are not reported more often than that.
func (d *Driver) Probes(ctx context.Context) <-chan domain.ProbeResult {
	return d.probes.subscribe(ctx)
}

// Changes returns the status of an instance each time its state, address or process changed, until ctx ends.
func (d *Driver) Changes(ctx context.Context) <-chan domain.InstanceStatus {
	return d.status.subscribe(ctx)
}

// Logs returns the path of the instance's log; older parts are beside it as .1, .2.
func (d *Driver) Logs(id domain.InstanceID) string {
	return filepath.Join(d.folder(id), supervise.LogFile)
}

// Adopt takes over, at the start of the daemon, every instance that should run: what runs is proven and watched, what
// died, in a reboot too, is started again. An instance that cannot be started is reported and does not hinder the others.
func (d *Driver) Adopt(ctx context.Context) ([]domain.InstanceStatus, error) {
	if err := d.sweepOneOffs(ctx); err != nil {
		d.cfg.Logger.Warn("end what was left of one-off commands", "error", err)
	}
	records, err := d.Recorded()
	if err != nil {
		return nil, err
	}
	var tasks errgroup.Group
	tasks.SetLimit(8)
	errs := make([]error, len(records))
	for i, inst := range records {
		it := d.instance(inst.InstanceID)
		tasks.Go(func() error {
			if err := it.launch(ctx, inst); err != nil {
				errs[i] = fmt.Errorf("%s: %w", inst.InstanceID, err)
			}
			return nil
		})
	}
	_ = tasks.Wait() // each error is in errs
	var found []domain.InstanceStatus
	for _, inst := range records {
		found = append(found, d.instance(inst.InstanceID).current())
	}
	return found, errors.Join(errs...)
}

// Remove deletes the folder of a stopped instance, its log among it. A running one is refused.
func (d *Driver) Remove(ctx context.Context, id domain.InstanceID) error {
	it := d.instance(id)
	if err := it.acquire(ctx); err != nil {
		return err
	}
	defer it.release()
	if it.running() || supervise.HasShim(it.dir) {
		return domain.Errorf(domain.Conflict, "remove %s: it runs", id).WithHint("stop it first")
	}
	d.mu.Lock()
	delete(d.instances[roomOf(id)], id)
	d.mu.Unlock()
	return os.RemoveAll(it.dir)
}

// Sweep stops every instance that should run by its record and whose release is not among those that are wanted: what a
// crash left of a rollout that is over, or of tests. Called before Adopt it keeps them from being started again. It returns
// what it stopped; one that cannot be stopped does not hinder the others.
func (d *Driver) Sweep(ctx context.Context, wanted map[string]bool) ([]domain.InstanceID, error) {
	records, err := d.Recorded()
	if err != nil {
		return nil, err
	}
	var swept []domain.InstanceID
	var errs []error
	for _, inst := range records {
		if wanted[inst.Release] {
			continue
		}
		if err := d.Stop(ctx, inst.InstanceID); err != nil {
			errs = append(errs, err)
			continue
		}
		swept = append(swept, inst.InstanceID)
	}
	return swept, errors.Join(errs...)
}

// Recorded returns the instances that should run, as their folders say: also those that nobody has adopted yet, and those
// that could not be started.
func (d *Driver) Recorded() ([]domain.Instance, error) {
	root := filepath.Join(d.cfg.Data, "instances")
	var found []domain.Instance
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		switch depth := strings.Count(rel, "/"); {
		case depth == 4 && e.Name() == recordFile:
			var r record
			if err := d.readRecord(path, &r); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if r.Wanted && r.Instance.Workload.Kind != domain.Cron { // a job is its scheduler's
				found = append(found, r.Instance)
			}
		case depth >= 4 && e.IsDir():
			return fs.SkipDir // the app's own files
		}
		return nil
	})
	return found, err
}

func (d *Driver) folder(id domain.InstanceID) string {
	return filepath.Join(d.cfg.Data, "instances", id.App, string(id.Environment), id.Release,
		fmt.Sprintf("%s-%d", id.Role, id.Index))
}

func (d *Driver) instance(id domain.InstanceID) *instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	it, ok := d.instances[roomOf(id)][id]
	if !ok {
		it = newInstance(d, id)
		if d.instances[roomOf(id)] == nil {
			d.instances[roomOf(id)] = map[domain.InstanceID]*instance{}
		}
		d.instances[roomOf(id)][id] = it
	}
	return it
}

// room is one environment of one app. Each is asked once a second by whoever watches it, so the others must cost nothing.
type room struct {
	app string
	env domain.Environment
}

func roomOf(id domain.InstanceID) room { return room{id.App, id.Environment} }

// in returns the instances of an environment of an app, in the order of their names.
func (d *Driver) in(app string, env domain.Environment) []*instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.Collect(maps.Values(d.instances[room{app, env}]))
	slices.SortFunc(list, func(a, b *instance) int {
		return cmp.Or(strings.Compare(a.id.Release, b.id.Release), strings.Compare(a.id.Role, b.id.Role), cmp.Compare(a.id.Index, b.id.Index))
	})
	return list
}
