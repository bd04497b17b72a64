package torture

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// visitsMain is the client of the scripted releases, in a process of its own: ten visitors of six kinds and one stream.
// Some keep cookies, some connect anew for each request, some are of a segment. It prints what loadMain prints.
func visitsMain(args []string) int {
	flags := flag.NewFlagSet("visits", flag.ContinueOnError)
	addr, host := flags.String("addr", "", ""), flags.String("host", "", "")
	rate := flags.Int("rate", 50, "requests per second")
	if flags.Parse(args) != nil {
		return 2
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	l := &load{addr: *addr, host: *host, out: bufio.NewWriter(os.Stdout)}
	const visitors = 10
	pause := visitors * time.Second / time.Duration(*rate)
	var wg sync.WaitGroup
	for n := range visitors {
		v := &visitor{load: l, number: n, mix: visitMix, head: "X-Visitor: " + strconv.Itoa(n) + "\r\n"}
		switch {
		case n < 2:
			v.keeps = true
		case n < 4:
			v.head += "X-Plan: gold\r\n"
		case n == 5:
			v.head += "Cookie: country=nl\r\n"
		}
		wg.Go(func() { v.stay(stop, pause) })
	}
	wg.Go(func() { (&visitor{load: l, number: 10, stream: true}).stay(stop, 200*time.Millisecond) })
	wg.Wait()
	return 0
}

// visitMix is what a visitor asks for: a fifth are writes that nobody may repeat.
func visitMix(n int) (kind, method, path string, body []byte) {
	switch n % 10 {
	case 2, 7:
		return "pay", http.MethodPost, "/api/pay", bytes.Repeat([]byte(strconv.Itoa(n%10)), 2000)
	case 3, 5:
		return "items", http.MethodGet, "/api/items", nil
	}
	return "get", http.MethodGet, "/", nil
}

// seen is what the visitors of one app saw of one release.
type seen struct {
	requests, failed, planted int // planted: by this release; usual failures are those of every release
	usual                     int
	firstBegin, lastBegin     time.Time
	firstFail, firstPlanted   time.Time
	strange                   []request // failed, and the app did not say so itself
}

// visits is a running client of one app.
type visits struct {
	traffic
	by map[string]*seen // by the label of the release; - where no answer came
}

func startVisits(t *testing.T, addr, host string, rate int) *visits {
	t.Helper()
	v := &visits{by: map[string]*seen{}}
	v.run(t, v.count, "visits", "-addr", addr, "-host", host, "-rate", strconv.Itoa(rate))
	return v
}

func (v *visits) count(r request) {
	s := v.by[r.release]
	if s == nil {
		s = &seen{}
		v.by[r.release] = s
	}
	s.requests++
	if s.firstBegin.IsZero() || r.begin.Before(s.firstBegin) {
		s.firstBegin = r.begin
	}
	if r.begin.After(s.lastBegin) {
		s.lastBegin = r.begin
	}
	if !r.failed() {
		return
	}
	s.failed++
	if s.firstFail.IsZero() || r.begin.Before(s.firstFail) {
		s.firstFail = r.begin
	}
	switch r.why {
	case "error":
		s.planted++
		if s.firstPlanted.IsZero() || r.begin.Before(s.firstPlanted) {
			s.firstPlanted = r.begin
		}
	case "base":
		s.usual++
	default:
		s.strange = append(s.strange, r)
	}
}

// of returns what was seen of a release up to now.
func (v *visits) of(label string) seen {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.by[label]; s != nil {
		return *s
	}
	return seen{}
}

// labels lists the releases that answered.
func (v *visits) labels() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var list []string
	for label := range v.by {
		list = append(list, label)
	}
	return list
}
