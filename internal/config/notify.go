package config

import (
	"maps"
	"slices"
	"strings"
)

// Listening returns which channels are told about which events of a delivery: what its own file says and what that of the
// last release that is done says, so that a commit does not silence the alarms about itself. last may be nil.
func Listening(own, last *File) map[string][]Event {
	all := map[string][]Event{}
	for _, f := range []*File{own, last} {
		if f == nil {
			continue
		}
		for channel, events := range f.Notify {
			for _, e := range events {
				if !slices.Contains(all[channel], e) {
					all[channel] = append(all[channel], e)
				}
			}
		}
	}
	return all
}

// notify keeps every channel that the last release has, with its events.
func (s *stricter) notify() {
	s.e.Notify = Listening(s.own, s.last)
	for _, channel := range slices.Sorted(maps.Keys(s.last.Notify)) {
		var silent []string
		for _, e := range s.last.Notify[channel] {
			if !slices.Contains(s.own.Notify[channel], e) {
				silent = append(silent, string(e))
			}
		}
		if len(silent) > 0 {
			s.say("notify.%s: no longer told about %s", channel, strings.Join(silent, ", "))
		}
	}
}
