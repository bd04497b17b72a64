package delivery

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// rollback goes back, and waits until what left has retired behind the answer.
func (w *world) rollback(ctx context.Context, q RollbackRequest) (domain.RollbackResult, error) {
	w.t.Helper()
	s := w.life.s
	res, err := s.Rollback(ctx, q)
	for range 600 {
		s.mu.Lock()
		open := len(s.returns)
		s.mu.Unlock()
		if open == 0 {
			return res, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Error("a way back is still open after a minute")
	return res, err
}
