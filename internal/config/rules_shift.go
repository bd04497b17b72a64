package config

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// rulesConsumers says where a step is a smaller share of a worker role than one of its consumers: the rollout starts one
// anyway, and the share is another one then. The default steps are not warned of: belay plan shows what they come to.
func (f *File) rulesConsumers() {
	if f.Rollout.Strategy != Canary || !f.readable("rollout.steps") {
		return
	}
	for _, name := range inOrder(&f.places, "roles", f.Roles) {
		r := f.Roles[name]
		if at := "roles." + name; r.Kind() != domain.Worker || f.Has(at+".schedule") || f.bad[at] {
			continue
		}
		n := int(r.Instances.Production)
		for i, s := range f.Rollout.Steps {
			if float64(s.Weight)*float64(n) >= 1 || n < MinProductionInstances {
				continue
			}
			next, stable := consumersAt(s.Weight, n)
			at := fmt.Sprintf("rollout.steps[%d]", i)
			f.warnf("step-consumers", f.Pos(at), fmt.Sprintf("%.0f consumers make it true, or write the real share", math.Ceil(1/float64(s.Weight))),
				"%s: %s of %d consumers (roles.%s): the step is really %d of %d = %.0f%%",
				at, s.Weight, n, name, next, next+stable, math.Round(100*float64(next)/float64(next+stable)))
		}
	}
}

// consumersAt returns how many consumers of a worker role with n of them next and stable have at a step: next its share,
// at least one and never all, which start before stable's retire.
func consumersAt(weight Percent, n int) (next, stable int) {
	share := (int(math.Round(float64(weight)*domain.WeightAll))*n + domain.WeightAll/2) / domain.WeightAll
	return min(max(1, share), max(1, n-1)), n - min(share, n-1)
}

// schedulers are programs and libraries that start jobs by the clock themselves, by the names under which commands call
// them.
var schedulers = []string{
	"cron", "crond", "supercronic", "node-cron", "apscheduler", "whenever", "whenever-cron", "sidekiq-cron", "sidekiq-scheduler",
	"clockwork", "rqscheduler", "go-cron", "beat", "celerybeat",
}

// rulesScheduler warns of a scheduler inside a role that runs several times: each instance, of both releases while they
// stand beside each other, would start every job.
func (f *File) rulesScheduler(at string, r *Role) {
	if k := r.Kind(); k != domain.Web && k != domain.Worker || !f.readable(at+".run") {
		return
	}
	words := strings.FieldsFunc(r.Run.Text, func(c rune) bool { return strings.ContainsRune(" \t\n;&|()'\"=,", c) })
	celery := false
	for _, word := range words {
		base := strings.ToLower(path.Base(word))
		base = strings.TrimSuffix(base, path.Ext(base))
		celery = celery || base == "celery"
		if slices.Contains(schedulers, base) || celery && (word == "-B" || word == "--beat") {
			f.warnf("scheduler", f.Pos(at+".run"), "a role of its own: { run: …, schedule: 0 3 * * * Europe/Berlin }, or singleton: true",
				"%s.run: %s starts jobs by the clock: every instance of both releases would start each of them", at, word)
			return
		}
	}
}

// rulesInputs refuses inputs outside the repository, where it is known how deep in it the app's folder is.
func (f *File) rulesInputs() {
	if f.opts.Folder == "" {
		return
	}
	for i, p := range f.Inputs {
		if at := fmt.Sprintf("inputs[%d]", i); !f.bad[at] && Path(path.Join(f.opts.Folder, string(p))).outside() {
			f.fail("outside", at, "copy it in, or pin it as a dependency", "%s leaves the repository: no commit holds what is there", p)
		}
	}
}
