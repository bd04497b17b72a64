package rollout

import "github.com/belay-cd/belay/internal/domain"

func (r *Rollout) split(weight int, latched bool) Split {
	return Split{App: r.Record.App, Environment: r.Record.Environment, Rollout: r.Record.ID, Weight: weight,
		Latched: latched, Stable: r.Stable, Next: &r.Next}
}

func (r *Rollout) release(side domain.Side) *domain.Release {
	if side == domain.Stable {
		return r.Stable
	}
	return &r.Next
}

// instance describes the instance that a step is about. When memory runs out, next goes before stable, and staging before
// production.
func (r *Rollout) instance(s Step) domain.Instance {
	rel := r.release(s.Side)
	inst := InstanceOf(rel, s.Role, s.Index)
	if s.Side == domain.Next && rel.Environment == domain.Production {
		inst.OOMScoreAdj = nextOOMScore
	}
	return inst
}

// What the kernel takes first when memory runs out.
const (
	nextOOMScore    = 300
	stagingOOMScore = 500
)

// InstanceOf describes one instance of a stable release.
func InstanceOf(rel *domain.Release, role string, index int) domain.Instance {
	inst := domain.Instance{
		InstanceID: domain.InstanceID{App: rel.App, Environment: rel.Environment, Release: rel.ID, Role: role, Index: index},
		Commit:     rel.Commit, Digest: rel.Digest, Fixed: rel.Fixed,
	}
	for _, w := range rel.Workloads {
		if w.Role == role {
			inst.Workload = w
		}
	}
	if rel.Environment == domain.Staging {
		inst.OOMScoreAdj = stagingOOMScore
	}
	return inst
}
