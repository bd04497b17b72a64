package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mvdan.cc/sh/v3/syntax"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/secrets"
)

// runner gives deliveries the process driver, with the commands that run in a release's folder.
type runner struct {
	*process.Driver
	data     string
	box      *sandbox.Sandbox
	accounts sandbox.Accounts
	// releases lists the newest of an app in an environment, with the values that its logs must not show.
	releases func(ctx context.Context, app string, env domain.Environment) ([]domain.Release, error)
	// connections is how many the database of a release takes, 0 when it is not known; nil: nobody can tell.
	connections func(ctx context.Context, rel domain.Release) int
	// listeners are the addresses on which this server and its proxy listen.
	listeners []string
	external  externals
}

// masker masks every secret of releases.
func (r *runner) masker(releases ...domain.Release) *secrets.Masker {
	var values []domain.Secret
	for _, rel := range releases {
		for _, w := range rel.Workloads {
			for _, name := range w.Secrets {
				values = append(values, domain.NewSecret(w.Env[name]))
			}
		}
	}
	return secrets.NewMasker(values...)
}

// appMasker masks every secret of an app's recent releases.
func (r *runner) appMasker(ctx context.Context, app string) (*secrets.Masker, error) {
	var all []domain.Release
	for _, env := range domain.Environments {
		list, err := r.releases(ctx, app, env)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return r.masker(all...), nil
}

// Exec runs a one-off command in a release.
func (r *runner) Exec(ctx context.Context, inst domain.Instance, argv []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if inst.Digest == "" {
		return -1, domain.Errorf(domain.Invalid, "%s runs outside of belay: there is no release to run a command in", inst.App).
			WithHint("it is possible once the first delivery is done")
	}
	words := make([]string, len(argv))
	for i, arg := range argv {
		word, err := syntax.Quote(arg, syntax.LangPOSIX)
		if err != nil {
			return -1, domain.Errorf(domain.Invalid, "argument %d: %w", i+1, err)
		}
		words[i] = word
	}
	mask := r.masker(domain.Release{Workloads: []domain.Workload{inst.Workload}})
	out, errs := mask.Writer(orNothing(stdout)), mask.Writer(orNothing(stderr))
	code, err := r.Errand(ctx, inst, strings.Join(words, " "), process.Stdio{In: stdin, Out: out, Err: errs})
	return code, errors.Join(err, out.Close(), errs.Close())
}

func orNothing(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// oomBuild lets the kernel take builds, tests and one-off commands before anything that serves.
const oomBuild = sandbox.WorkshopOOM

// Logs copies the logs of a role's instances in both environments, one after the other; with Follow it goes on with what
// comes. Where nothing runs, those of the release that ran last are shown. The values of secrets are masked.
func (r *runner) Logs(ctx context.Context, q delivery.LogQuery, w io.Writer) (err error) {
	if strings.ContainsAny(q.App+q.Role, `/\*?[`) {
		return domain.Errorf(domain.Invalid, "role %q of %q: not a name", q.Role, q.App)
	}
	var files []*follower
	out := r.masker().Writer(w)
	defer func() {
		for _, f := range files {
			f.close()
		}
		err = errors.Join(err, out.Close())
	}()
	known := map[string]bool{}
	for {
		before := len(files)
		for _, env := range domain.Environments {
			paths, err := r.roleLogs(ctx, q.App, env, q.Role)
			if err != nil {
				return err
			}
			for path, name := range paths {
				if !known[path] {
					known[path] = true
					files = append(files, &follower{path: path, name: name})
				}
			}
		}
		if len(known) == 0 {
			return domain.Errorf(domain.NotFound, "no instance of role %s of %s has run here", q.Role, q.App)
		}
		if len(files) > before { // a release that has just come may have secrets that nobody knew
			masker, err := r.appMasker(ctx, q.App)
			if err = errors.Join(err, out.Close()); err != nil {
				return err
			}
			out = masker.Writer(w)
		}
		slices.SortStableFunc(files, func(a, b *follower) int { return strings.Compare(a.name, b.name) })
		for _, f := range files {
			if err := f.copy(out); err != nil {
				return err
			}
		}
		if !q.Follow {
			return nil
		}
		files = slices.DeleteFunc(files, (*follower).gone) // runs of jobs come and go
		select {
		case <-time.After(followEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// roleLogs names the logs of a role's instances: path to what stands before each line.
func (r *runner) roleLogs(ctx context.Context, app string, env domain.Environment, role string) (map[string]string, error) {
	logs := map[string]string{}
	list, err := r.List(ctx, app, env)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		if i.Role == role {
			logs[r.Driver.Logs(i.InstanceID)] = fmt.Sprintf("%s %s/%d", env, i.Role, i.Index)
		}
	}
	if len(logs) > 0 {
		return logs, nil
	}
	if logs, err = r.jobLogs(app, env, role); err != nil || len(logs) > 0 {
		return logs, err
	}
	past, err := filepath.Glob(filepath.Join(r.data, "instances", app, string(env), "*", role+"-[0-9]*", "log"))
	if err != nil || len(past) == 0 {
		return nil, err
	}
	slices.Sort(past) // ids of releases sort by their time
	newest := filepath.Dir(filepath.Dir(past[len(past)-1]))
	for _, path := range past {
		if filepath.Dir(filepath.Dir(path)) == newest {
			logs[path] = fmt.Sprintf("%s %s (stopped)", env, filepath.Base(filepath.Dir(path)))
		}
	}
	return logs, nil
}

// followEvery is how often a followed log is looked at.
const followEvery = 300 * time.Millisecond
