package process

import (
	"context"
	"slices"
	"sync"
)

// backlog is how many values a subscriber may lag behind before it loses the oldest.
const backlog = 4096

// feed hands values to its subscribers. A slow subscriber holds up nobody.
type feed[T any] struct {
	mu     sync.Mutex
	subs   []*subscription[T]
	wg     sync.WaitGroup
	closed bool
}

type subscription[T any] struct {
	queue []T
	more  chan struct{} // holds one token when the queue is not empty
}

func (f *feed[T]) subscribe(ctx context.Context) <-chan T {
	out := make(chan T)
	s := &subscription[T]{more: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		close(out)
		return out
	}
	f.subs = append(f.subs, s)
	f.wg.Go(func() {
		defer close(out)
		defer f.drop(s)
		f.deliver(ctx, s, out)
	})
	return out
}

func (f *feed[T]) deliver(ctx context.Context, s *subscription[T], out chan<- T) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-s.more:
			if !open {
				return
			}
		}
		for {
			f.mu.Lock()
			if len(s.queue) == 0 {
				f.mu.Unlock()
				break
			}
			v := s.queue[0]
			s.queue = s.queue[1:]
			closed := f.closed
			f.mu.Unlock()
			if closed {
				return
			}
			select {
			case out <- v:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (f *feed[T]) drop(s *subscription[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs = slices.DeleteFunc(f.subs, func(o *subscription[T]) bool { return o == s })
}

func (f *feed[T]) send(v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for _, s := range f.subs {
		if len(s.queue) >= backlog {
			s.queue = s.queue[1:]
		}
		s.queue = append(s.queue, v)
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

// close ends every subscription. It does not wait for subscribers that do not read; their contexts end them.
func (f *feed[T]) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	for _, s := range f.subs {
		close(s.more)
	}
}
