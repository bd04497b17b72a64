package cli

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(86012), "86,012"}, {count(1650204), "1,650,204"}, {count(-1234), "-1,234"},
		{percent(0), "0 %"}, {percent(0.0009), "0.09 %"}, {percent(0.023), "2.3 %"}, {percent(0.05), "5 %"}, {percent(0.5), "50 %"},
		{percent(1), "100 %"}, {percent(0.9996), "99.9 %"}, {percent(0.000001), "< 0.01 %"}, {percent(0.95), "95 %"},
		{share(77, 86012), "0.09 % (77)"}, {share(0, 100), "0 % (0)"}, {share(0, 0), "-"},
		{took(38 * time.Millisecond), "38 ms"}, {took(9100 * time.Millisecond), "9.1s"}, {took(41 * time.Second), "41s"},
		{took(9990 * time.Millisecond), "10s"}, {took(8 * time.Second), "8s"},
		{took(69 * time.Second), "1m 09s"}, {took(1816 * time.Second), "30m 16s"}, {took(time.Hour), "1h 00m"}, {took(59999 * time.Millisecond), "1m 00s"},
		{took(100 * time.Hour), "4 d"}, {took(-time.Second), "-"},
		{elapsed(110 * time.Second), "1m 50s"}, {elapsed(5788 * time.Second), "1h 36m 28s"}, {elapsed(300 * time.Millisecond), "0s"}, {elapsed(-time.Second), "0s"},
		{compact(132 * time.Second), "2m12s"}, {compact(15 * time.Minute), "15m"}, {compact(time.Hour), "1h00m"}, {compact(41 * time.Second), "41s"},
		{milliseconds(0), "-"}, {milliseconds(0.021), "21"}, {milliseconds(0.0042), "4.2"}, {milliseconds(1.5), "1,500"}, {latency(0.084), "84 ms"}, {latency(0), "-"},
		{plural(1, "check", "checks"), "1 check"}, {plural(0, "check", "checks"), "0 checks"},
		{shortDigest(sampleDigest), "sha256:8c1d…e07"}, {shortDigest(""), ""}, {clip("abcdef", 4), "abc…"}, {clip("ä", 1), "ä"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestWrapKeepsEveryWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.StringMatching(`[a-zä…]{1,12}`)).Draw(t, "words")
		columns := rapid.IntRange(12, 100).Draw(t, "columns")
		lines := wrap(strings.Join(words, " "), columns)
		for _, l := range lines {
			if size(l) > columns {
				t.Fatalf("%d columns of %d: %s", size(l), columns, l)
			}
		}
		if got := strings.Fields(strings.Join(lines, " ")); strings.Join(got, " ") != strings.Join(words, " ") {
			t.Fatalf("words changed: %q", got)
		}
	})
}
