package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

// weightOf is how heavy the instances of an environment are. Those that only tests talk to belong to neither of the two.
func weightOf(env domain.Environment) sandbox.Weight {
	switch env {
	case domain.Production:
		return sandbox.Full
	case domain.Staging:
		return sandbox.Low
	default:
		return sandbox.Lowest
	}
}

// limitsOf are the limits of the control group of an instance, or of a command that runs in its place.
func limitsOf(inst domain.Instance, w sandbox.Weight) supervise.Limits {
	return supervise.Limits{Memory: inst.Workload.Memory, CPU: inst.Workload.CPU, PIDs: maxPIDs, Share: w.Share()}
}

// Workshop returns the control group folders in which all builds and tests of this data folder run, at the lowest weight
// and with one memory limit for all of them; none where the kernel lets nobody make groups.
func (d *Driver) Workshop() []string {
	group, _ := supervise.NewGroup(d.group+"/workshop",
		supervise.Limits{Memory: sandbox.WorkshopMemory(), PIDs: maxPIDs, Share: sandbox.Lowest.Share()})
	return group.Dirs()
}

// Rescore changes how early the kernel takes the instances of a release when memory runs out: those that run now, with all
// that they started, and those that are started again. A release that becomes stable is no longer first to go.
func (d *Driver) Rescore(ctx context.Context, rel domain.Release, score int) error {
	var errs []error
	for _, it := range d.in(rel.App, rel.Environment) {
		if it.id.Release == rel.ID {
			if err := it.rescore(ctx, score); err != nil {
				errs = append(errs, fmt.Errorf("rescore %s: %w", it.id, err))
			}
		}
	}
	return errors.Join(errs...)
}

// rescore writes the score where a later start reads it, and then to what runs.
func (it *instance) rescore(ctx context.Context, score int) error {
	if err := it.acquire(ctx); err != nil {
		return err
	}
	defer it.release()
	if !it.running() {
		return nil
	}
	path := filepath.Join(it.dir, recordFile)
	var r record
	if err := supervise.ReadJSON(path, &r); err != nil {
		return err
	}
	r.Instance.OOMScoreAdj = score
	if err := supervise.WriteJSON(path, r); err != nil {
		return err
	}
	it.mu.Lock()
	it.inst.OOMScoreAdj = score
	it.mu.Unlock()
	pids, err := supervise.Rescore(it.dir, score)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := writeScore(pid, score); err != nil {
			return err
		}
	}
	return nil
}

// writeScore tells the kernel. A process that has ended meanwhile has no score.
func writeScore(pid, score int) error {
	err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(score)), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
