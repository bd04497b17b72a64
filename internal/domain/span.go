package domain

import (
	"strconv"
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

// Thousands prints a number as people write it: 1,650,204.
func Thousands(n int64) string {
	text, sign := strconv.FormatInt(n, 10), ""
	if n < 0 {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// Period is a span of time, From included.
type Period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}
