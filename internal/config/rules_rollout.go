package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/metric"
)

var checkKinds = []string{"http", "tcp", "run", "metric"}

func (f *File) rulesVerify() {
	if f.readable("verify.error_rate") && !f.bad["guard.error_rate"] && f.Verify.ErrorRate >= f.Guard.ErrorRate.Rate {
		f.fail("verify-guard", "verify.error_rate", "below "+f.Guard.ErrorRate.Rate.String(), "the guard (%s) would act first", f.Guard.ErrorRate)
	}
	for _, name := range inOrder(&f.places, "verify.checks", f.Verify.Checks) {
		f.rulesCheck("verify.checks."+name, f.Verify.Checks[name])
	}
}

func (f *File) rulesCheck(path string, c *CheckSpec) {
	if f.bad[path] {
		return
	}
	f.either(path, checkKinds, "what is checked")
	kind := ""
	for _, k := range checkKinds {
		if f.Has(path + "." + k) {
			kind = k
		}
	}
	if kind == "" {
		f.fail("check-kind", path, "{ http: /v1/items }", "one of http, tcp, run, metric is expected")
		return
	}
	for _, k := range []string{"method", "headers", "send", "status", "body", "json", "within", "critical", "role"} {
		if kind != "http" && f.Has(path+"."+k) && (k != "role" || kind != "run") {
			f.failKey("not-together", path+"."+k, "take it away", "it belongs to http, not to %s", kind)
		}
	}
	if bool(c.Critical) && kind == "http" && !c.Method.reads() && !f.bad[path+".method"] {
		f.errorf("critical-write", f.KeyPos(path+".critical"), fmt.Sprintf("check a read here, and name the write: guard: { endpoints: [%s %s] }", c.Method, c.HTTP),
			"%s: a critical check repeats for hours, a %s should not", path, c.Method)
	}
	if part, weak := c.Run.CannotFail(); weak && f.readable(path+".run") {
		hint := "write the flow's command"
		if part != "" {
			hint = `take "` + oneLine(part) + `" away`
		}
		f.fail("cannot-fail", path+".run", hint, "this command cannot fail")
	}
	if f.readable(path + ".role") {
		if _, ok := f.Roles[string(c.Role)]; !ok {
			f.fail("unknown-role", path+".role", f.didYouMeanRole(string(c.Role)), "unknown role %s", c.Role)
		}
	}
	f.positive(path+".timeout", c.Timeout)
	f.positive(path+".within", c.Within)
	f.rulesExpression(path, c.Metric)
	for _, name := range inOrder(&f.places, path+".headers", c.Headers) {
		if kind := looksSecret(name, string(c.Headers[name])); kind != "" {
			at := f.Pos(path + ".headers." + name)
			f.mask(at)
			f.errorf("literal-secret", at, "name it under secrets, and write $NAME here", "%s.headers.%s: it looks like a secret (%s)", path, name, kind)
		}
	}
}

// rulesExpression checks the names of an expression.
func (f *File) rulesExpression(path string, e Expression) {
	if e.Expr == nil {
		return
	}
	known := f.metricNames()
	for _, n := range e.Expr.Names() {
		ok := false
		for _, k := range known {
			ok = ok || k == n.Metric
		}
		if ok {
			continue
		}
		hint := "a name under metrics, or " + strings.Join(metric.Builtin[:4], ", ") + ", …"
		if near := nearest(n.Metric, known); near != "" {
			hint = "did you mean " + near + "?"
			if f.Has("metrics." + near) {
				hint += fmt.Sprintf(" (metrics, line %d)", f.KeyPos("metrics."+near).Line)
			}
		}
		at := f.within(path+".metric", len([]rune(e.Text[:n.Offset])), n.Length)
		f.errorf("unknown-name", at, hint, "%s: unknown name %s", path, n.Text)
	}
}

func (f *File) rulesGates() {
	a := f.Gates.Approvals
	if a == nil || f.bad["gates.approvals"] {
		return
	}
	path := "gates.approvals"
	switch {
	case !f.Has(path + ".need"):
		f.failKey("missing", path, "need: 1", "how many approvals?")
	case f.bad[path+".need"]:
	case a.Need < 1:
		f.fail("range", path+".need", "1, or take approvals away", "at least 1")
	case len(a.From) > 1 && int(a.Need) > len(a.From):
		f.fail("approvals", path+".need", fmt.Sprintf("%d, or %s person", len(a.From), ordinal(int(a.Need))), "%d of %d people can never be reached", a.Need, len(a.From))
	}
	switch {
	case !f.Has(path + ".from"):
		f.failKey("missing", path, "from: [ana, ben]", "from whom?")
	case len(a.From) == 0 && !f.bad[path+".from"]:
		f.fail("missing", path+".from", "[ana, ben], or one group: [\"@deployers\"]", "nobody is asked")
	}
	seen := map[Text]bool{}
	for i, who := range a.From {
		if seen[who] {
			f.fail("twice", fmt.Sprintf("%s.from[%d]", path, i), "keep one", "%s is there twice", who)
		}
		seen[who] = true
	}
	if f.readable(path+".expire") && a.Expire.D() > MaxApprovalExpire {
		f.fail("range", path+".expire", formatDuration(DefaultApprovalExpire), "at most %s: nobody remembers what was asked", formatDuration(MaxApprovalExpire))
	}
	f.positive(path+".expire", a.Expire)
}

func ordinal(n int) string {
	if words := []string{"", "a first", "a second", "a third", "a fourth", "a fifth"}; n < len(words) {
		return words[n]
	}
	return "another"
}

func (f *File) rulesRollout() {
	r := f.Rollout
	if f.Has("rollout.steps") && r.Strategy != Canary && !f.bad["rollout.strategy"] {
		f.failKey("steps-strategy", "rollout.steps", "take them away, or strategy: canary", "%s has no steps", r.Strategy)
	}
	if f.readable("rollout.steps") && f.Has("rollout.steps") {
		if len(r.Steps) == 0 {
			f.fail("empty", "rollout.steps", "[5% for 15m, 50% for 15m]", "it has no step")
		}
		for i, s := range r.Steps {
			at := fmt.Sprintf("rollout.steps[%d]", i)
			if i > 0 && s.Weight <= r.Steps[i-1].Weight {
				f.fail("steps-rise", at, "more than "+r.Steps[i-1].Weight.String(), "the weights must rise")
			}
			if s.For <= 0 {
				f.fail("zero", at, s.Weight.String()+" for 15m", "it must be longer than 0")
			}
			if s.Proved && s.For < r.MinSoak.D() {
				f.fail("soak", at, "within "+formatDuration(max(DefaultSteps[0].For, r.MinSoak.D())), "it is shorter than min_soak (%s)", r.MinSoak)
			}
		}
	}
	for _, k := range []string{"split", "sticky"} {
		if f.Has("rollout."+k) && r.Strategy == Rolling {
			f.failKey("not-together", "rollout."+k, "take it away", "rolling does not split the traffic")
		}
	}
	if f.Has("rollout.sticky") && r.Split == Request {
		f.failKey("not-together", "rollout.sticky", "keep one", "split: request draws each request anew")
	}
	if s := r.Sticky; s != nil {
		f.oneVisitor("rollout.sticky")
	}
	if f.Has("monitor.holdback") && r.Strategy == Rolling {
		f.failKey("not-together", "monitor.holdback", "take it away", "rolling keeps nothing on stable")
	}
	if f.readable("monitor.holdback") && f.Monitor.Holdback > MaxHoldback {
		f.fail("range", "monitor.holdback", "5%", "at most %s", Percent(MaxHoldback))
	}
	if f.readable("monitor.for") && f.Monitor.For.D() < MinMonitor && !f.opts.Demo {
		f.fail("monitor-short", "monitor.for", formatDuration(MinMonitor)+" or longer", "below %s nothing can be seen", formatDuration(MinMonitor))
	}
	if !f.opts.Demo {
		f.positive("rollout.staging_hold", r.StagingHold)
		f.positive("rollout.min_soak", r.MinSoak)
	}
}

// oneVisitor checks that one of cookie and header is written.
func (f *File) oneVisitor(path string) {
	f.either(path, []string{"cookie", "header"}, "where it is read from")
	if !f.Has(path+".cookie") && !f.Has(path+".header") && !f.bad[path] {
		f.fail("visitor-kind", path, "{ cookie: name }", "one of cookie, header is expected")
	}
}

func (f *File) rulesGuard() {
	g := f.Guard
	if f.readable("guard.error_rate") && g.ErrorRate.For <= 0 && !f.opts.Demo {
		f.fail("zero", "guard.error_rate", g.ErrorRate.Rate.String()+" for "+formatDuration(DefaultGuardErrorFor), "it must be longer than 0")
	}
	if f.readable("guard.error_rate") && g.ErrorRate.Rate >= 1 {
		f.fail("range", "guard.error_rate", Limit{DefaultGuardErrorRate, Duration(DefaultGuardErrorFor)}.String(), "more than all requests cannot fail")
	}
	if f.readable("guard.failed_probes") && g.FailedProbes < 1 {
		f.fail("range", "guard.failed_probes", strconv.Itoa(DefaultFailedProbes), "at least 1")
	}
	if f.readable("guard.false_rollbacks") && (g.FalseRollbacks > MaxFalseRollbacks || g.FalseRollbacks <= 0) {
		f.fail("range", "guard.false_rollbacks", Percent(DefaultFalseRollbacks).String(), "above 0%% and at most %s", Percent(MaxFalseRollbacks))
	}
	if f.readable("guard.margin") && g.Margin <= 0 {
		f.fail("range", "guard.margin", Percent(DefaultMargin).String(), "above 0%%: every release differs a little")
	}
	if len(g.Endpoints) > MaxEndpoints {
		f.fail("range", "guard.endpoints", "use * for a segment of the path", "at most %d", MaxEndpoints)
	}
	for _, name := range inOrder(&f.places, "guard.segments", g.Segments) {
		f.oneVisitor("guard.segments." + name)
	}
}
