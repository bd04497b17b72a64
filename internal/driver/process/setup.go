package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

// What an instance finds inside its walls.
const (
	insideRun  = "/run/belay/instance" // its own folder, with the heartbeat
	insideSelf = "/run/belay/belay"    // this binary, for static roles
	insideTmp  = "/tmp"
)

// maxPIDs keeps an instance that forks without end from taking the machine with it.
const maxPIDs = 16384

// setUp prepares the folder of an instance and launches it. The record comes first: what was begun is known.
func (it *instance) setUp(ctx context.Context, inst domain.Instance) (record, error) {
	r := record{Wanted: true, Instance: inst}
	c, err := it.d.confinement(ctx, inst)
	if err != nil {
		return r, err
	}
	if err := os.MkdirAll(it.dir, 0o711); err != nil {
		return r, err
	}
	if hasPort(inst.Workload) {
		if r.Port, err = it.d.reserve(inst.Workload.Port, it.id); err != nil {
			return r, err
		}
	}
	if err := it.d.writeRecord(filepath.Join(it.dir, recordFile), r); err != nil {
		return r, err
	}
	command, err := c.command(it.dir, r.Port, inst.Workload.Run, nil)
	if err != nil {
		return r, err
	}
	spec := supervise.Spec{
		Command: command, Mode: c.mode, Port: r.Port, Group: it.d.groupOf(it.id),
		Limits: limitsOf(inst, weightOf(inst.Environment)),
		Grace:  supervise.Duration(it.d.cfg.Grace), Backoff: it.d.cfg.Backoff, Log: it.d.cfg.Log,
	}
	spec.Command.Env, spec.Secret = apart(spec.Command.Env, inst.Workload)
	it.begin(r)
	return r, supervise.Start(ctx, it.d.cfg.Self, it.dir, spec)
}

func (d *Driver) groupOf(id domain.InstanceID) string {
	return d.group + "/" + strings.ReplaceAll(id.String(), "/", ".")
}

// confinement is where and as whom the code of one instance runs.
type confinement struct {
	d       *Driver
	inst    domain.Instance
	mode    sandbox.Mode
	account sandbox.Account
	release string // the unpacked artifact
}

func (d *Driver) confinement(ctx context.Context, inst domain.Instance) (confinement, error) {
	c := confinement{d: d, inst: inst}
	var err error
	if c.release, err = d.cfg.Artifacts.Unpack(ctx, inst.Digest); err != nil {
		return c, fmt.Errorf("unpack %s: %w", inst.Digest, err)
	}
	c.mode, _ = d.cfg.Sandbox.Probe()
	if c.mode == sandbox.User {
		c.account, err = d.cfg.Accounts.Of(ctx, inst.App, string(inst.Environment))
	}
	return c, err
}

// at is the folder in which the code finds its release.
func (c confinement) at() string {
	if c.inst.Fixed == "" || c.mode == sandbox.None {
		return c.release
	}
	return c.inst.Fixed
}

// command returns the confined command for a run line (or the static server) with its own folders below dir.
func (c confinement) command(dir string, port int, run string, extra map[string]string) (sandbox.Spec, error) {
	tmp, own := filepath.Join(dir, "tmp"), filepath.Join(dir, "run")
	for _, folder := range []string{tmp, own} {
		if err := c.ownFolder(folder, 0o700); err != nil {
			return sandbox.Spec{}, err
		}
	}
	hide, binds := sandbox.Walls(c.d.cfg.Data, c.d.cfg.Home, c.d.cfg.Path)
	binds = append(binds,
		sandbox.Bind{From: tmp, To: insideTmp},
		sandbox.Bind{From: own, To: insideRun},
		sandbox.Bind{From: c.d.cfg.Self, To: insideSelf, ReadOnly: true},
		sandbox.Bind{From: c.release, To: c.at(), ReadOnly: true},
	)
	volumes, err := c.volumes()
	if err != nil {
		return sandbox.Spec{}, err
	}
	env := c.environment(tmp, own, port)
	maps.Copy(env, extra)
	spec := sandbox.Spec{
		Dir: c.at(), UID: c.account.UID, GID: c.account.GID,
		Hide: hide, Bind: append(binds, volumes...), PrivateTmp: true,
		OOMScoreAdj: c.inst.OOMScoreAdj, Weight: weightOf(c.inst.Environment),
		Rlimits: []sandbox.Rlimit{{Resource: unix.RLIMIT_CORE}},
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		spec.Env = append(spec.Env, name+"="+env[name])
	}
	spec.Argv, err = c.arguments(run, spec.Env)
	return spec, err
}

func (c confinement) arguments(run string, env []string) ([]string, error) {
	static := c.inst.Workload.Static
	if run == "" && static != "" {
		self := insideSelf
		if c.mode == sandbox.None {
			self = c.d.cfg.Self
		}
		return []string{self, "static", static}, nil
	}
	return c.d.cfg.Command(run, env)
}

// environment is every variable of the instance. Belay's own win.
func (c confinement) environment(tmp, own string, port int) map[string]string {
	if c.mode != sandbox.None {
		tmp, own = insideTmp, insideRun
	}
	env := map[string]string{"PATH": c.d.cfg.Path, "HOME": own, "LANG": "C.UTF-8"}
	if c.account.Name != "" {
		env["USER"], env["LOGNAME"] = c.account.Name, c.account.Name
	}
	maps.Copy(env, sandbox.ToolchainEnv(c.d.cfg.Home, c.d.cfg.Path))
	maps.Copy(env, c.inst.Workload.Env)
	maps.Copy(env, map[string]string{
		"BELAY_ENV": string(c.inst.Environment), "BELAY_APP": c.inst.App, "BELAY_RELEASE": c.inst.Release,
		"BELAY_COMMIT":    c.inst.Commit,
		"BELAY_INSTANCE":  fmt.Sprintf("%s-%d", c.inst.Role, c.inst.Index),
		"BELAY_HEARTBEAT": filepath.Join(own, heartbeatName), "TMPDIR": tmp,
	})
	if port > 0 {
		env["PORT"] = strconv.Itoa(port)
	}
	return env
}

// volumes makes the app's lasting folders and returns how they are shown in the release.
func (c confinement) volumes() ([]sandbox.Bind, error) {
	var binds []sandbox.Bind
	for _, name := range slices.Sorted(maps.Keys(c.inst.Workload.Volumes)) {
		path := c.inst.Workload.Volumes[name]
		if !filepath.IsLocal(path) || !filepath.IsLocal(name) || strings.Contains(name, "/") {
			return nil, fmt.Errorf("volume %s: %q does not lie in the release", name, path)
		}
		from := filepath.Join(c.d.cfg.Data, "volumes", c.inst.App, string(c.inst.Environment), name)
		if err := c.ownFolder(from, 0o750); err != nil {
			return nil, err
		}
		if err := mountPoint(c.release, path, from, c.mode); err != nil {
			return nil, fmt.Errorf("volume %s: %w", name, err)
		}
		binds = append(binds, sandbox.Bind{From: from, To: filepath.Join(c.at(), path)})
	}
	return binds, nil
}

// mountPoint makes the folder in the release at which a volume is shown. No link in the artifact leads it astray. Where
// nothing can be mounted, it is a link to the volume instead.
func mountPoint(release, path, volume string, mode sandbox.Mode) error {
	root, err := os.OpenRoot(release)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // a folder
	if mode != sandbox.None {
		return root.MkdirAll(path, 0o755)
	}
	if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if target, err := os.Readlink(filepath.Join(release, path)); err == nil && target == volume {
		return nil
	}
	return os.Symlink(volume, filepath.Join(release, path))
}

// ownFolder makes a folder that belongs to the app's user. Its parent is the daemon's, so nobody can put a link there.
func (c confinement) ownFolder(path string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	err := os.Mkdir(path, mode)
	if errors.Is(err, os.ErrExist) {
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			return fmt.Errorf("%s: it is no folder", path)
		}
	} else if err != nil {
		return err
	}
	if c.mode != sandbox.User {
		return nil
	}
	return os.Lchown(path, c.account.UID, c.account.GID)
}

// hasPort reports whether a role listens.
func hasPort(w domain.Workload) bool {
	return w.Kind == domain.Web || w.Port > 0 || w.Static != "" || w.Metrics != "" || w.Probe.HTTP != "" || w.Probe.TCP
}

func addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func portFree(port int) bool {
	l, err := net.Listen("tcp", addr(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// reserve returns a port that nobody listens on and no other instance has. A wanted one is taken or refused.
func (d *Driver) reserve(wanted int, id domain.InstanceID) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unclaimLocked(id)
	first, n := d.cfg.Ports[0], d.cfg.Ports[1]-d.cfg.Ports[0]+1
	if wanted > 0 {
		first, n = wanted, 1
	}
	from := rand.IntN(n)
	for i := range n {
		port := first + (from+i)%n
		if _, taken := d.ports[port]; !taken && portFree(port) {
			d.ports[port] = id
			return port, nil
		}
	}
	if wanted > 0 {
		return 0, domain.Errorf(domain.Conflict, "port %d is taken", wanted).WithHint("let the app listen on $PORT")
	}
	return 0, domain.Errorf(domain.Failed, "no free port between %d and %d", d.cfg.Ports[0], d.cfg.Ports[1])
}

func (d *Driver) claim(port int, id domain.InstanceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if port > 0 {
		d.ports[port] = id
	}
}

func (d *Driver) unclaim(id domain.InstanceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unclaimLocked(id)
}

func (d *Driver) unclaimLocked(id domain.InstanceID) {
	maps.DeleteFunc(d.ports, func(_ int, owner domain.InstanceID) bool { return owner == id })
}

// probeOf is the workload's probe with every number set.
func probeOf(w domain.Workload) domain.Probe {
	p := w.Probe
	if w.Static != "" && p.HTTP == "" {
		p.HTTP = "/"
	}
	if p.Every <= 0 {
		p.Every = 5 * time.Second
	}
	if p.Timeout <= 0 {
		p.Timeout = 2 * time.Second
	}
	if p.StartWithin <= 0 {
		p.StartWithin = time.Minute
	}
	return p
}
