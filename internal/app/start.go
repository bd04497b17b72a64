package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sandbox"
)

// starter runs roles of the built artifact for the tests of a level.
type starter struct {
	runner   *runner
	job      delivery.Job
	artifact delivery.Artifact
}

// tested is the environment of instances that only tests talk to.
const tested domain.Environment = "test"

// partsStarted tells the volumes of parts apart that run at the same time.
var partsStarted atomic.Int64

// Start starts one instance of each role for one part of a level, with volumes of its own, and waits until it is healthy.
// Env are the variables of the level and of its services: they stand above the file's own.
func (s *starter) Start(ctx context.Context, roles, env []string) ([]string, func(context.Context) error, error) {
	rel := domain.Release{ID: domain.NewID("rel_test_"), App: s.job.Delivery.App, Environment: tested, Commit: s.job.Delivery.Commit,
		Digest: s.artifact.Digest, Fixed: s.artifact.Fixed, Workloads: config.Workloads(s.job.File, domain.Staging)}
	part := &startedPart{runner: s.runner, app: rel.App, release: rel.ID}
	if mode, _ := s.runner.box.Probe(); mode != sandbox.None { // there a link in the release leads to a volume, always the same
		part.suffix = fmt.Sprintf(".%d", partsStarted.Add(1))
	}
	if err := s.runner.Prepare(ctx, rel.Digest); err != nil {
		return nil, nil, err
	}
	var given []string
	for _, role := range roles {
		inst := rollout.InstanceOf(&rel, role, 0)
		inst.OOMScoreAdj = oomBuild
		inst.Workload.Env = withLevel(inst.Workload.Env, env)
		inst.Workload.Volumes = part.volumesOf(inst.Workload)
		part.started = append(part.started, inst.InstanceID)
		status, err := s.runner.Start(ctx, inst)
		if err != nil {
			err = fmt.Errorf("%w%s", err, withoutSecrets(inst.Workload))
			return nil, nil, errors.Join(err, part.stop(context.WithoutCancel(ctx)))
		}
		if status.Addr == "" {
			continue
		}
		if len(given) == 0 {
			given = append(given, "BELAY_URL=http://"+status.Addr)
		}
		given = append(given, urlName(role)+"=http://"+status.Addr)
	}
	return given, part.stop, nil
}

// urlName is the variable with a role's URL: BELAY_URL_ADMIN_API of admin-api.
func urlName(role string) string {
	return "BELAY_URL_" + strings.ToUpper(strings.ReplaceAll(role, "-", "_"))
}

// startedPart is what was started for one part of a level.
type startedPart struct {
	runner       *runner
	app, release string
	suffix       string // of its volumes
	started      []domain.InstanceID
	volumes      []string // folders
}

// volumesOf gives a role volumes that only this part has; its roles share them.
func (p *startedPart) volumesOf(w domain.Workload) map[string]string {
	own := map[string]string{}
	for name, path := range w.Volumes {
		own[name+p.suffix] = path
		p.volumes = append(p.volumes, filepath.Join(p.runner.data, "volumes", p.app, string(tested), name+p.suffix))
	}
	return own
}

// stop stops everything and leaves nothing.
func (p *startedPart) stop(ctx context.Context) error {
	var errs []error
	for _, id := range p.started {
		errs = append(errs, p.runner.Stop(ctx, id), p.runner.Remove(ctx, id))
	}
	for _, dir := range append(p.volumes, filepath.Join(p.runner.data, "instances", p.app, string(tested), p.release)) {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// sweepTested removes what a crash left of the roles that tests had started. Nothing of it runs any more.
func sweepTested(data string) error {
	var errs []error
	for _, kind := range []string{"instances", "volumes"} {
		left, err := filepath.Glob(filepath.Join(data, kind, "*", string(tested)))
		errs = append(errs, err)
		for _, dir := range left {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// withLevel returns a role's variables with those of a test level above them.
func withLevel(env map[string]string, level []string) map[string]string {
	all := maps.Clone(env)
	if all == nil {
		all = map[string]string{}
	}
	for _, pair := range level {
		name, value, _ := strings.Cut(pair, "=")
		all[name] = value
	}
	return all
}

// withoutSecrets names the secrets that a role did not get, which is a likely reason why it does not start in a test.
func withoutSecrets(w domain.Workload) string {
	var missing []string
	for _, name := range w.Secrets {
		if w.Env[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("; tests get no secrets: give %s a literal value in the env of this level", strings.Join(missing, ", "))
}
