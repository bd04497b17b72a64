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

// The waits between two looks: at the metrics, which a scrape brings each 5 s, and at what is known.
const (
	evalEvery = time.Second
	lookEvery = 250 * time.Millisecond
)

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

// look asks again while a later look may say something else.
func look(ctx context.Context, c Check) Result {
	for tries := 1; ; tries++ {
		v := c.Look(ctx)
		if !v.Again || !wait(ctx, lookEvery) {
			var ownLimit timeoutError
			if v.Again && !errors.As(context.Cause(ctx), &ownLimit) {
				v = Verdict{State: Failed, Message: context.Cause(ctx).Error()}
			}
			if v.State == NotChecked {
				v.Message = notChecked(v.Message).Message
			}
			return Result{State: v.State, Message: v.Message, Attempts: tries}
		}
	}
}

// metric evaluates until there is an answer. Names without samples are waited for, as the first scrape may not have come.
func metric(ctx context.Context, c Check, target Target) Result {
	if !target.Traffic {
		return notChecked("without traffic there are no numbers")
	}
	if target.Lookup == nil {
		return notChecked("no source")
	}
	start := time.Now()
	for tries := 1; ; tries++ {
		seen := names{}
		ok, err := c.Metric.Eval(seen.record(target.Lookup))
		if err == nil && ok {
			return Result{State: Passed, Attempts: tries, Message: fmt.Sprintf("%s: %s", c.Metric, seen)}
		}
		settled := err == nil && !c.Until || err != nil && seen.final(target.Absent, time.Since(start) >= DefaultMetricTimeout)
		if settled || !wait(ctx, evalEvery) {
			res := verdict(ctx, c, target, seen, err)
			res.Attempts = tries
			return res
		}
	}
}

// verdict says what remains when a metric check did not pass. Numbers that are not there are no failure and no pass, but
// for one that the file promises and the app does not expose.
func verdict(ctx context.Context, c Check, target Target, seen names, err error) Result {
	missing := seen.missing()
	var ownLimit timeoutError
	switch {
	case ctx.Err() != nil && !errors.As(context.Cause(ctx), &ownLimit):
		return Result{State: Failed, Message: fmt.Sprintf("%s: %v", c.Metric, context.Cause(ctx))}
	case err != nil && len(missing) > 0:
		return absent(missing, target.Absent)
	case err != nil:
		return notChecked(fmt.Sprintf("%s cannot be computed: %v (%s)", c.Metric, err, seen))
	default:
		return Result{State: Failed, Message: fmt.Sprintf("expected %s, got %s", c.Metric, seen)}
	}
}

// absent tells why names have no numbers; one of them that ought to be there makes it red.
func absent(missing []string, why func(string) Absence) Result {
	if why == nil {
		return notChecked("no source: no samples of " + strings.Join(missing, ", "))
	}
	red := false
	reasons := make([]string, len(missing))
	for i, name := range missing {
		a := why(name)
		red = red || a.Red
		reasons[i] = name + ": " + a.Why
	}
	if !red {
		return notChecked(strings.Join(reasons, "; "))
	}
	return Result{State: Failed, Message: strings.Join(reasons, "; ")}
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

// final reports whether waiting brings none of the missing names. What is not exposed after the time of a first scrape
// does not come.
func (n names) final(why func(string) Absence, late bool) bool {
	for _, name := range n.missing() {
		if why == nil {
			return false
		}
		if a := why(name); !a.Final && (!a.Red || !late) {
			return false
		}
	}
	return true
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
