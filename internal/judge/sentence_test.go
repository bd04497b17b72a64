package judge

import (
	"testing"
	"time"
)

// What a person reads, to the letter.
func TestSentences(t *testing.T) {
	good := func(int64) Stratum { return pair(500, requests(50, 0), requests(950, 1)) }
	quick := func(side Side, middle time.Duration) Side {
		for i := range side.Requests {
			if side.Latency == nil {
				side.Latency = newDice(1).latencies(0, 0)
			}
			side.Latency.Add(middle * time.Duration(80+i%41) / 100)
		}
		return side
	}
	for _, x := range []struct {
		name   string
		c      Config
		before func(n int64) Stratum
		for1   int64
		after  func(n int64) Stratum
		for2   int64
		want   string
	}{
		{"roll back at once", noLatency(), good, 0, func(int64) Stratum { return pair(500, requests(302, 9), requests(5698, 5)) }, 1,
			"errors: 9 of 302 requests to next failed, stable had 5 of 5,698. If next were no worse, evidence this strong would turn up in fewer than 1 of 1,000 releases. About 9 requests failed because of it"},
		{"roll back later", noLatency(), good, 10, func(int64) Stratum { return pair(500, requests(302, 10), requests(5698, 5)) }, 1,
			"errors: 10 of 302 requests to next failed since 14:03:10, stable had 5 of 5,698. If next were no worse, evidence this strong would turn up in fewer than 1 of 1,000 releases. About 10 requests failed because of it"},
		{"slow", defaults(), nil, 0, func(int64) Stratum {
			return pair(500, quick(requests(50, 0), 240*time.Millisecond), quick(requests(950, 0), 118*time.Millisecond))
		}, 4, "latency: p95 of next 283 ms, stable 140 ms. If next were no worse, evidence this strong would turn up in fewer than 1 of 1,000 releases"},
		{"proved", defaults(), nil, 0, func(int64) Stratum {
			return pair(5000, quick(requests(200, 0), 120*time.Millisecond), quick(requests(200, 0), 118*time.Millisecond))
		}, 120, "proved: errors of next are below 1.25 times stable's or within 0.1 percentage points of them, and its latency is within +20 %: 0 of 24,000 requests to next failed, stable had 0 of 24,000; p95 of next 141 ms, stable 140 ms. A release that is worse would pass in fewer than 1 of 20"},
		{"watch", noLatency(), nil, 0, func(int64) Stratum { return pair(500, requests(50, 0), requests(950, 5)) }, 40,
			"not proven yet: 0 of 2,000 requests to next failed, stable had 200 of 38,000; errors of ×4.1 or worse would have been seen"},
	} {
		j := New(x.c)
		play(j, 0, x.for1, x.before)
		v, _ := play(j, x.for1, x.for1+x.for2, x.after)
		if v.Sentence != x.want {
			t.Errorf("%s: %s\n got %s\nwant %s", x.name, v.Decision, v.Sentence, x.want)
		}
	}
}
