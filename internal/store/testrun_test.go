package store_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/store"
)

func TestTestRuns(t *testing.T) {
	s := fresh(t)
	ctx, now := t.Context(), time.Unix(2_000_000_000, 0)
	save := func(level, inputs string, usable bool, at time.Time, info string) {
		t.Helper()
		if err := s.SaveTestRun(ctx, store.TestRun{App: "shop", Level: level, Inputs: inputs, Usable: usable, At: at, Info: json.RawMessage(info)}); err != nil {
			t.Fatal(err)
		}
	}
	usable := func(level, inputs string, at time.Time) string {
		t.Helper()
		info, err := s.UsableTestRun(ctx, "shop", level, inputs, at)
		if err != nil {
			t.Fatal(err)
		}
		return string(info)
	}
	save("unit", "a", true, now, `"green"`)
	save("unit", "a", false, now, `"red"`)
	save("unit", "b", false, now, `"other"`)
	save("e2e", "a", true, now, `"level"`)
	for _, c := range []struct {
		level, inputs string
		at            time.Time
		want          string
	}{
		{"unit", "a", now, `"green"`},
		{"unit", "a", now.Add(store.KeepTestResults), `"green"`},
		{"unit", "a", now.Add(store.KeepTestResults + time.Second), ""},
		{"unit", "a", now.Add(-time.Second), ""}, // the clock went back
		{"unit", "b", now, ""},
		{"unit", "", now, ""},
		{"e2e", "a", now, `"level"`},
	} {
		if got := usable(c.level, c.inputs, c.at); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if info, err := s.UsableTestRun(ctx, "other", "unit", "a", now); info != nil || err != nil {
		t.Errorf("the run of another app: %s, %v", info, err)
	}
	list, err := s.TestRuns(ctx, "shop", "unit", "a", 0)
	if err != nil || fmt.Sprintf("%s", list) != `["red" "green"]` {
		t.Errorf("%s, %v", list, err)
	}
	if list, err = s.TestRuns(ctx, "shop", "unit", "", 2); err != nil || fmt.Sprintf("%s", list) != `["other" "red"]` {
		t.Errorf("%s, %v", list, err)
	}
	for i := range store.KeepTestRuns {
		save("unit", "c", true, now, `"`+strings.Repeat("x", i%7)+`"`)
	}
	if got := usable("unit", "a", now); got != "" {
		t.Errorf("%d runs later: %s", store.KeepTestRuns, got)
	}
	if got := usable("e2e", "a", now); got == "" {
		t.Error("the runs of another level are gone")
	}
}
