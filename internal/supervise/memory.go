package supervise

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/sandbox"
)

// watchMemory sets when the instance's memory is looked at next. Where the kernel limits it nobody need look.
func (s *shim) watchMemory(used int64) {
	limit := s.spec.Limits.Memory
	if limit <= 0 || s.group.LimitsMemory() {
		return
	}
	s.memory = time.After(sandbox.NextLook(used, limit))
}

// boundMemory ends the process when it and all that it started use more than their limit: it is killed at it, never its
// neighbour.
func (s *shim) boundMemory() {
	limit := s.spec.Limits.Memory
	used := int64(0)
	if s.state.Phase == Running {
		used = sandbox.Resident(members(s.group, s.state.Child, os.Getpid()), limit)
	}
	if used > limit {
		s.exceeded = true
		// Its end is told like any other; what is left of it goes then.
		_ = s.state.Child.Group(unix.SIGKILL)
	}
	s.watchMemory(used)
}
