package torture

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"
)

// crowd is the client of the judged releases, in a process of its own: many visitors who come, ask a few times and go. It
// prints what loadMain prints.
type crowd struct {
	*load
	kind  string
	rate  int
	began time.Time
}

// crowdSlots is how many visitors are there at the same time.
const crowdSlots = 80

// crowdMain plays a kind of traffic: cookies, bare, heavy, bursty or uneven.
func crowdMain(args []string) int {
	flags := flag.NewFlagSet("crowd", flag.ContinueOnError)
	addr, host, kind := flags.String("addr", "", ""), flags.String("host", "", ""), flags.String("kind", "", "")
	rate := flags.Int("rate", 100, "requests per second")
	if flags.Parse(args) != nil {
		return 2
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	c := &crowd{load: &load{addr: *addr, host: *host, out: bufio.NewWriter(os.Stdout)}, kind: *kind, rate: *rate, began: time.Now()}
	var wg sync.WaitGroup
	for n := range crowdSlots {
		wg.Go(func() { c.slot(n, stop) })
	}
	wg.Wait()
	return 0
}

// slot is one visitor after the other, on connections of their own. The pauses are those of a Poisson process.
func (c *crowd) slot(n int, stop <-chan struct{}) {
	v := &visitor{load: c.load, number: 1}
	defer v.hangUp()
	next := time.Now()
	for left, visits := 0, 0; ; left-- {
		if left <= 0 {
			left = c.stay()
			visits++
			c.enter(v, fmt.Sprintf("%d-%d", n, visits))
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Until(next)):
		}
		v.visit()
		if next = next.Add(c.pause()); time.Since(next) > time.Second {
			next = time.Now() // no burst after a slow answer
		}
	}
}

// stay is how many requests a visitor makes: with heavy ones, one of fifty makes half of all requests.
func (c *crowd) stay() int {
	switch c.kind {
	case "bare", "bursty":
		return 1
	case "heavy":
		if rand.IntN(50) == 0 {
			return 100
		}
		return 2
	}
	return 1 + rand.IntN(7)
}

// enter makes somebody else of a visitor. Those without cookies are never known again.
func (c *crowd) enter(v *visitor, name string) {
	v.hangUp()
	v.cookie, v.keeps = "", c.kind != "bare" && c.kind != "bursty"
	v.head = "X-Visitor: " + name + "\r\n"
	if rand.IntN(4) == 0 {
		v.head += "X-Plan: gold\r\n"
	}
	v.mix = visitMix
	if c.kind == "uneven" && rand.IntN(5) > 0 {
		v.mix = func(int) (kind, method, path string, body []byte) { return "get", "GET", "/", nil }
	}
}

// pause is the time until a visitor asks again: bursts have three times as many requests as the rest, and uneven traffic
// rises and falls within a minute.
func (c *crowd) pause() time.Duration {
	rate := float64(c.rate)
	at := time.Since(c.began).Seconds()
	switch c.kind {
	case "bursty":
		rate *= 0.6
		if int(at)%6 < 2 {
			rate *= 3
		}
	case "uneven":
		rate *= 0.5 + float64(int(at)%30)/30
	}
	return time.Duration(rand.ExpFloat64() * crowdSlots / rate * float64(time.Second))
}

func startCrowd(t *testing.T, addr, host, kind string, rate int) *visits {
	t.Helper()
	v := &visits{by: map[string]*seen{}}
	v.run(t, v.count, "crowd", "-addr", addr, "-host", host, "-kind", kind, "-rate", fmt.Sprint(rate))
	return v
}
