package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// A commit that silences its own alarms is still told of: the union of both files counts, and the silence is listed.
func TestACommitDoesNotSilenceItsAlarms(t *testing.T) {
	read := func(notify string) *File { t.Helper(); return right(t, small+notify) }
	last := read("notify: { oncall: [failed, rolled_back], team: [done] }\n")
	for _, c := range []struct{ own, want, loosened string }{
		{"", "oncall[failed rolled_back] team[done]", "notify.oncall: no longer told about failed, rolled_back|notify.team: no longer told about done"},
		{"notify: { oncall: [failed] }\n", "oncall[failed rolled_back] team[done]", "notify.oncall: no longer told about rolled_back|notify.team: no longer told about done"},
		{"notify: { oncall: [held, failed, rolled_back], team: [done], new: [started] }\n", "new[started] oncall[held failed rolled_back] team[done]", ""},
	} {
		e, loosened := Stricter(read(c.own), last)
		got := []string{}
		for _, channel := range slices.Sorted(maps.Keys(e.Notify)) {
			words := []string{}
			for _, event := range e.Notify[channel] {
				words = append(words, string(event))
			}
			got = append(got, channel+"["+strings.Join(words, " ")+"]")
		}
		if strings.Join(got, " ") != c.want || strings.Join(loosened, "|") != c.loosened {
			t.Errorf("%q: %s, loosened %q", c.own, got, loosened)
		}
	}
	if got := Listening(nil, nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
