package domain

import (
	"strings"
	"time"
)

// Span prints a duration as people write it in belay.yaml: 1h, 15m, 1h30m, 20s.
func Span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Period is a span of time, From included.
type Period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}
