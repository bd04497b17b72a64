package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// evalEvery is the wait between two looks at the metrics: a scrape comes each 5 s.
const evalEvery = time.Second

func tcp(ctx context.Context, c Check) Result {
	var d net.Dialer
	start := time.Now()
	conn, err := d.DialContext(ctx, "tcp", c.TCP)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Result{State: Failed, Attempts: 1, Message: fmt.Sprintf("expected %s to accept a connection: %v", c.TCP, err)}
	}
	_ = conn.Close()
	return Result{State: Passed, Attempts: 1, Message: fmt.Sprintf("%s accepts connections, in %s", c.TCP, time.Since(start).Round(time.Millisecond))}
}

func (r *Runner) run(ctx context.Context, c Check, target Target) Result {
	if r.Exec == nil {
		return notChecked("no source: nothing runs commands here")
	}
	env := make(map[string]string, len(target.Env)+1)
	for k, v := range target.Env {
		env[k] = v
	}
	if target.URL != "" {
		env["BELAY_URL"] = target.URL
	}
	start := time.Now()
	out, err := r.Exec.Exec(ctx, Command{Check: c.Name, Run: c.Run, Env: env})
	res := Result{State: Failed, Attempts: 1}
	switch {
	case ctx.Err() != nil:
		res.Message = fmt.Sprintf("%s: %v; output: %s", c.Run, context.Cause(ctx), r.shownEnd(out.Output))
	case err != nil:
		res.Message = fmt.Sprintf("%s: %v", c.Run, err)
	case out.Code != 0:
		res.Message = fmt.Sprintf("%s: expected exit 0, got %d; output: %s", c.Run, out.Code, r.shownEnd(out.Output))
	default:
		res.State = Passed
		res.Message = fmt.Sprintf("%s: exit 0 in %s", c.Run, time.Since(start).Round(time.Millisecond))
	}
	return res
}

// shownEnd shows the end of an output, where commands say why they failed, with its lines.
func (r *Runner) shownEnd(output string) string {
	if r.Mask != nil {
		output = r.Mask(output)
	}
	output = strings.TrimSpace(strings.ToValidUTF8(output, "·"))
	if output == "" {
		return "(none)"
	}
	const most = 2 << 10
	if len(output) > most {
		output = "… " + strings.ToValidUTF8(output[len(output)-most:], "")
	}
	return output
}

// metric evaluates until there is an answer. Names without samples are waited for, as the first scrape may not have come;
// a release whose names never come is not checked, which is no failure and no pass.
func metric(ctx context.Context, c Check, target Target) Result {
	if !target.Traffic {
		return notChecked("without traffic there are no numbers")
	}
	if target.Lookup == nil {
		return notChecked("no source")
	}
	for tries := 1; ; tries++ {
		seen := names{}
		ok, err := c.Metric.Eval(seen.record(target.Lookup))
		if err == nil && ok {
			return Result{State: Passed, Attempts: tries, Message: fmt.Sprintf("%s: %s", c.Metric, seen)}
		}
		missing := seen.missing()
		settled := err == nil && !c.Until || err != nil && len(missing) == 0
		if settled || !wait(ctx, evalEvery) {
			return verdict(ctx, c, seen, err, tries)
		}
	}
}

func verdict(ctx context.Context, c Check, seen names, err error, tries int) Result {
	missing := seen.missing()
	res := Result{State: Failed, Attempts: tries}
	var ownLimit timeoutError
	switch {
	case ctx.Err() != nil && !errors.As(context.Cause(ctx), &ownLimit):
		res.Message = fmt.Sprintf("%s: %v", c.Metric, context.Cause(ctx))
	case err != nil && len(missing) > 0:
		res = notChecked("no source: no samples of " + strings.Join(missing, ", "))
		res.Attempts = tries
	case err != nil:
		res.Message = fmt.Sprintf("%s: cannot be computed: %v (%s)", c.Metric, err, seen)
	default:
		res.Message = fmt.Sprintf("expected %s, got %s", c.Metric, seen)
	}
	return res
}

// names records what an expression asked for, and what it got.
type names map[string]*float64

func (n names) record(lookup func(string) (float64, bool)) func(string) (float64, bool) {
	return func(name string) (float64, bool) {
		v, ok := lookup(name)
		if n[name] = nil; ok {
			n[name] = &v
		}
		return v, ok
	}
}

func (n names) missing() []string {
	var list []string
	for name, v := range n {
		if v == nil {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func (n names) String() string {
	list := make([]string, 0, len(n))
	for name, v := range n {
		text := "unknown"
		if v != nil {
			text = strconv.FormatFloat(*v, 'g', 6, 64)
		}
		list = append(list, name+" = "+text)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
