package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belay-cd/belay/internal/domain"
)

// width is how many columns a line of output has.
const width = 100

// absent is how a figure that is not known is written.
const absent = "-"

// count writes a number with commas: 86,012.
func count(n int64) string {
	return domain.Thousands(n)
}

// percent writes a fraction: 0.09 %, 2.3 %, 50 %. Two digits of it count, and what is not zero never reads as zero.
func percent(f float64) string {
	p := f * 100
	abs := math.Abs(p)
	switch {
	case p == 0:
		return "0 %"
	case abs < 0.01:
		return "< 0.01 %"
	case abs < 1:
		return trimZeros(strconv.FormatFloat(p, 'f', 2, 64)) + " %"
	case abs < 10:
		return trimZeros(strconv.FormatFloat(p, 'f', 1, 64)) + " %"
	case abs > 99 && abs < 100: // not all is not 100 %
		return trimZeros(strconv.FormatFloat(math.Floor(p*10)/10, 'f', 1, 64)) + " %"
	default:
		return strconv.FormatFloat(p, 'f', 0, 64) + " %"
	}
}

func trimZeros(s string) string { return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") }

// share writes a count of a whole: 0.09 % (77), and - when the whole is empty.
func share(part, whole int64) string {
	if whole == 0 {
		return absent
	}
	return fmt.Sprintf("%s (%s)", percent(float64(part)/float64(whole)), count(part))
}

// seconds turns the API's seconds into a duration.
func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// took writes how long something took: 38 ms, 9.1s, 41s, 1m 09s, 1h 36m.
func took(d time.Duration) string {
	switch {
	case d < 0:
		return absent
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		if s := d.Round(100 * time.Millisecond); s < 10*time.Second && s%time.Second != 0 {
			return fmt.Sprintf("%.1fs", s.Seconds())
		}
	}
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm %02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh %02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	}
}

// elapsed writes the running time of a delivery to the second: 1m 50s, 1h 36m 28s.
func elapsed(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return took(d)
	default:
		return fmt.Sprintf("%dh %02dm %02ds", d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second)
	}
}

// age writes how long ago something was, to the second.
func age(d time.Duration) string {
	if d < time.Second {
		return "0s"
	}
	return took(d.Truncate(time.Second))
}

// compact writes a duration as one word, as plain lines do: 2m12s, 15m, 1h00m.
func compact(d time.Duration) string {
	if d >= time.Minute && d < time.Hour && d%time.Minute == 0 {
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return strings.ReplaceAll(took(d), " ", "")
}

// within writes seconds as people read them: 38 ms, 8.2 s.
func within(s float64) string {
	if s < 1 {
		return milliseconds(s) + " ms"
	}
	return strconv.FormatFloat(s, 'f', 1, 64) + " s"
}

// milliseconds writes a latency in seconds as whole milliseconds, with one digit below 10; - when it is not known.
func milliseconds(s float64) string {
	ms := s * 1000
	switch {
	case ms <= 0:
		return absent
	case ms < 9.95:
		return trimZeros(strconv.FormatFloat(ms, 'f', 1, 64))
	default:
		return count(int64(math.Round(ms)))
	}
}

// latency is milliseconds with its unit.
func latency(s float64) string {
	if s <= 0 {
		return absent
	}
	return milliseconds(s) + " ms"
}

// plural writes a count with its noun: 1 check, 4 checks.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// shortDigest writes sha256:8c1d…e07 for a digest.
func shortDigest(d string) string {
	name, hex, ok := strings.Cut(d, ":")
	if !ok || len(hex) <= 8 {
		return d
	}
	return name + ":" + hex[:4] + "…" + hex[len(hex)-3:]
}

// size counts the columns of s, which holds no escape sequences.
func size(s string) int { return utf8.RuneCountInString(s) }

// pad fills s with spaces on the right to n columns.
func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-size(s))) }

// right fills s with spaces on the left to n columns.
func right(s string, n int) string { return strings.Repeat(" ", max(0, n-size(s))) + s }

// ends puts b at the right end of a line that begins with a.
func ends(a, b string, columns int) string {
	return a + strings.Repeat(" ", max(2, columns-size(a)-size(b))) + b
}

// clip cuts s to n columns.
func clip(s string, n int) string {
	if size(s) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	return string([]rune(s)[:n-1]) + "…"
}

// wrap breaks text into lines of at most n columns, at spaces.
func wrap(text string, n int) []string {
	var lines []string
	for paragraph := range strings.Lines(text) {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			switch {
			case line == "":
				line = word
			case size(line)+1+size(word) > n:
				lines = append(lines, line)
				line = word
			default:
				line += " " + word
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// clean takes control characters out of text that came from elsewhere, so that it cannot act on the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || (r >= 0x7f && r < 0xa0):
			return -1
		// Direction marks would let a commit's subject rewrite the line around it.
		case (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069):
			return -1
		}
		return r
	}, s)
}

// clock writes a moment of today as 14:31 and any other with its day.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04")
	}
	return t.Format("2 Jan 15:04")
}
