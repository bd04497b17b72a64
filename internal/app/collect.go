package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/proxy"
	"github.com/belay-cd/belay/internal/sample"
)

// collector pulls the proxy's ticks by number, so that each is counted once whoever restarts.
type collector struct {
	proxy *proxy.Client
	book  *sample.Book
	keep  *keeper
	mask  func(app, text string) string // nil masks nothing
}

// Pauses of the collector.
const (
	tickWait  = 2 * time.Second        // longest wait for a tick
	tickRetry = 200 * time.Millisecond // after the proxy did not answer
)

// catchUpFor bounds how long a new process reads what the proxy counted while there was none.
const catchUpFor = 3 * time.Second

// catchUp reads what the proxy holds, so that guards which go on see what happened before.
func (c *collector) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpFor)
	defer cancel()
	boot := ""
	for {
		page, err := c.proxy.Ticks(ctx, boot, c.book.Last(boot), 0)
		if err != nil || len(page.Ticks) == 0 {
			return // the steady pull goes on from here
		}
		boot = page.Boot
		c.keep.add(c.book.Add(c.masked(page.Ticks)...))
	}
}

// masked takes the values of secrets out of the paths, headers and cookies by which requests are counted: a visitor's address
// may hold one.
func (c *collector) masked(ticks []measure.Tick) []measure.Tick {
	if c.mask == nil {
		return ticks
	}
	for _, t := range ticks {
		for i := range t.Series {
			s := &t.Series[i]
			if s.Endpoint != "" {
				s.Endpoint = c.mask(s.App, s.Endpoint)
			}
			if s.Segment != "" {
				s.Segment = c.mask(s.App, s.Segment)
			}
		}
	}
	return ticks
}

// run pulls, and has stored what it pulled, until ctx ends.
func (c *collector) run(ctx context.Context) {
	var saver sync.WaitGroup
	saver.Go(func() { c.keep.run(ctx) })
	defer saver.Wait()
	boot := ""
	for ctx.Err() == nil {
		page, err := c.proxy.Ticks(ctx, boot, c.book.Last(boot), tickWait)
		if err != nil {
			select {
			case <-time.After(tickRetry):
			case <-ctx.Done():
			}
			continue
		}
		boot = page.Boot
		c.keep.add(c.book.Add(c.masked(page.Ticks)...))
	}
}

// served reports whether any of the ticks counted a request.
func served(ticks []measure.Tick) bool {
	for _, t := range ticks {
		if len(t.Series) > 0 {
			return true
		}
	}
	return false
}

// routesFollow keeps the addresses of the routes true while instances come and go.
func routesFollow(ctx context.Context, changes <-chan domain.InstanceStatus, r *router, log *slog.Logger) {
	for i := range changes {
		if err := r.refresh(ctx, i.App, i.Environment); err != nil && ctx.Err() == nil {
			log.Warn("follow an instance", "instance", i.String(), "error", err)
		}
	}
}
