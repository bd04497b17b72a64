package domain

import (
	"fmt"
	"strings"
)

// Quantity writes a metric's number as people read it, with three digits, and its unit behind it.
func Quantity(v float64, unit string) string {
	if unit == "bytes" {
		for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
			if v < 1000 && v > -1000 {
				break
			}
			v, unit = v/1024, next
		}
	}
	text := fmt.Sprintf("%.3g", v)
	if v >= 1000 || v <= -1000 {
		text = Thousands(int64(v))
	}
	return strings.TrimSpace(text + " " + unit)
}
