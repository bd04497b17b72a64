package proxy

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// The rhythm of the proxy's own probes. They only move requests to instances that look better: with none left, all are
// tried.
const (
	probeEvery  = 2 * time.Second
	probeFailed = time.Second // until the next probe of an instance that failed
	probeWithin = 2 * time.Second
	probesToDie = 2
)

// live starts to probe an instance for as long as a table names it. It counts as alive until a probe says otherwise.
func (i *instance) live(ctx context.Context) {
	ctx, i.cancel = context.WithCancel(ctx)
	i.dead.Store(false)
	if i.probe != "" {
		go i.watch(ctx)
	}
}

func (i *instance) watch(ctx context.Context) {
	client := &http.Client{
		Timeout:       probeWithin,
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	failed := 0
	wait := time.NewTimer(rand.N(probeFailed / 4))
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if i.answers(ctx, client) {
			failed = 0
			i.dead.Store(false)
			wait.Reset(probeEvery + rand.N(probeEvery/4))
			continue
		}
		if failed++; failed >= probesToDie {
			i.dead.Store(true)
		}
		wait.Reset(probeFailed)
	}
}

func (i *instance) answers(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.addr+i.probe, nil)
	if err != nil {
		return false
	}
	req.Header.Set("User-Agent", "belay-probe")
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return err == nil && res.StatusCode < http.StatusBadRequest
}
