package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/web"
)

// Bounds of a recording. A line is one second, so that a recording of any length takes the memory of a line.
const (
	maxTickLine = 8 << 20
	maxCount    = 1_000_000_000 // of anything in one second
)

// readTicks calls see for each line of a recording, in order, until it returns an error. The name is that of messages.
func readTicks(ctx context.Context, name string, r io.Reader, see func(web.Replayed) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxTickLine)
	n, rollout := 0, ""
	wrong := func(why string) *domain.Error { return usage("%s:%d: %s", name, n, why) }
	for lines.Scan() {
		n++
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		t, err := tickOf(text)
		if err != nil {
			return wrong(clean(err.Error())).WithHint("a line is one tick, as belay explain ID --ticks --json prints it")
		}
		if why := wrongTick(t.Tick); why != "" {
			return wrong(why)
		}
		if rollout == "" {
			rollout = t.Rollout
		}
		if t.Rollout != "" && t.Rollout != rollout {
			return wrong("another rollout begins here: a recording is of one").WithHint("keep one file per rollout")
		}
		if err := see(t); err != nil {
			return err
		}
	}
	n++
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return wrong(fmt.Sprintf("longer than %d MiB", maxTickLine>>20)).WithHint("a line is one tick: one second of one proxy")
	case err != nil:
		return usage("%s: %w", name, err)
	}
	return nil
}

// tickOf reads one line strictly: a misspelt count must not pass for 0.
func tickOf(text []byte) (web.Replayed, error) {
	var t web.Replayed
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&t)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return t, fmt.Errorf("%s: %s does not fit", strings.TrimPrefix(kind.Field, "Tick."), kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return t, errors.New("cut off in the middle")
	case err != nil:
		return t, fmt.Errorf("not a tick: %w", err)
	}
	if rest, err := io.ReadAll(d.Buffered()); err != nil || len(bytes.TrimSpace(rest)) > 0 {
		return t, errors.New("not a tick: something follows it in its line")
	}
	return t, nil
}

// wrongTick says what no proxy can have counted; "" when there is nothing of that.
func wrongTick(t judge.Tick) string {
	if t.N < 1 {
		return fmt.Sprintf("n is %d: the ticks of a proxy are numbered from 1", t.N)
	}
	for i, s := range t.Strata {
		if s.Weight < 0 || s.Weight > domain.WeightAll {
			return fmt.Sprintf("strata[%d].weight is %d: it is 0 to %d hundredths of a percent", i, s.Weight, domain.WeightAll)
		}
		for _, side := range []struct {
			name string
			of   judge.Side
		}{{"next", s.Next}, {"stable", s.Stable}, {"placebo", s.Placebo}} {
			if why := wrongSide(side.of); why != "" {
				return fmt.Sprintf("strata[%d].%s.%s", i, side.name, why)
			}
		}
	}
	return ""
}

func wrongSide(s judge.Side) string {
	wrong := func(name string, n int64) string {
		if n < 0 || n > maxCount {
			return fmt.Sprintf("%s is %d: it is 0 to %s", name, n, count(maxCount))
		}
		return ""
	}
	why := orElse(orElse(wrong("requests", s.Requests), wrong("errors", s.Errors)), orElse(wrong("drawn", s.Drawn), wrong("failed", s.Failed)))
	why = orElse(why, wrong("latency", most(s.Latency)))
	for i, p := range s.Parts {
		part := orElse(orElse(wrong("requests", p.Requests), wrong("errors", p.Errors)), orElse(wrong("failed", p.Failed), wrong("latency", most(p.Latency))))
		if part != "" && why == "" {
			why = fmt.Sprintf("parts[%d].%s", i, part)
		}
	}
	return why
}

// most is the count of the fullest bucket: the sum of hostile counts may not even be a number.
func most(h *measure.Histogram) int64 {
	n := int64(0)
	for _, p := range h.Pairs() {
		n = max(n, p.Count)
	}
	return n
}
