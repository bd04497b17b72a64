package supervise

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// StartOnce records what to run in dir and launches its shim, as Start does, for a process that runs once: it is never
// started again, whatever dies, and the shim ends with it. What an earlier call has begun is not begun again.
func StartOnce(ctx context.Context, self, dir string, spec Spec) error {
	if Stopping(dir) {
		return errors.New("it was stopped before it started")
	}
	spec.Once = true
	if err := WriteJSON(filepath.Join(dir, specFile), spec); err != nil {
		return err
	}
	return Launch(ctx, self, dir, spec.Secret...)
}

// over reports whether there is nothing left to keep.
func (s *shim) over() bool { return s.spec.Once && s.state.Phase == Ended }

// lost records the end of a process that runs once and that nobody saw ending. Whether one was begun that never reached the
// record, nobody knows: it is not begun again, and what there is of it is ended.
func (s *shim) lost() error {
	if s.state.Phase == Ended {
		return nil
	}
	s.state.Last = &Exit{Proc: s.state.Child, Code: -1, At: time.Now(), Unseen: true}
	s.sweep()
	return s.conclude()
}

// conclude records that the process ended for good.
func (s *shim) conclude() error {
	s.group.Remove()
	s.state.Phase, s.state.Until = Ended, time.Time{}
	return s.save()
}
