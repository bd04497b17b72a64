package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// tryWithin is how long one try of what must succeed may take: a data plane that hangs is asked again.
const tryWithin = 10 * time.Second

// insist does what there is no way around, until it succeeds or ctx ends, whose cause it then returns. A person is paged when
// it takes longer than a rollback may.
func (e *Engine) insist(ctx context.Context, r *Rollout, what string, f func(context.Context) error) error {
	began := time.Now()
	nextPage := began.Add(e.Limits.Rollback)
	for {
		err := once(ctx, f)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if now := time.Now(); now.After(nextPage) {
			e.Observer.Page(ctx, r, fmt.Sprintf("%s: not done after %s: %s", what, now.Sub(began).Round(time.Second), err))
			nextPage = now.Add(e.Limits.PageEvery)
		}
		pause(ctx)
	}
}

// once runs one try within its limit.
func once(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tryWithin, domain.Errorf(domain.Unavailable, "no answer within %s", tryWithin))
	defer cancel()
	err := f(ctx)
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// again tries f until it succeeds or ctx ends: where there is no way back, there is only the way on.
func again(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// pause waits a moment between two tries.
func pause(ctx context.Context) {
	select {
	case <-time.After(retryEvery):
	case <-ctx.Done():
	}
}
