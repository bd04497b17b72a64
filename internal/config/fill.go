package config

import "time"

// fillDefaults sets what the file does not write, so that readers of a File never ask for a default.
func (f *File) fillDefaults() {
	set := func(path string, fill func()) {
		if !f.Has(path) || f.bad[path] {
			fill()
		}
	}
	set("driver", func() {
		f.Driver = Process
		if f.Build.Dockerfile != "" || f.Build.Image != "" {
			f.Driver = Docker
		}
	})
	set("inputs", func() { f.Inputs = []Path{"."} })
	set("build.timeout", func() { f.Build.Timeout = Duration(DefaultBuildTimeout) })
	for _, l := range f.Test.Level() {
		if l.Level != nil {
			set("test."+l.Name+".timeout", func() { l.Level.Timeout = Duration(levelTimeouts[l.Name]) })
			set("test."+l.Name+".shards", func() { l.Level.Shards = DefaultShards })
		}
	}
	if m := f.Migrations; m != nil {
		set("migrations.database", func() { m.Database = DefaultDatabase })
		set("migrations.lock_timeout", func() { m.LockTimeout = Duration(DefaultLockTimeout) })
		set("migrations.timeout", func() { m.Timeout = Duration(DefaultMigrationTimeout) })
	}
	for name, r := range f.Roles {
		if r == nil {
			delete(f.Roles, name)
			continue
		}
		f.fillRole("roles."+name, r, set)
	}
	for name, c := range f.Verify.Checks {
		if c == nil {
			delete(f.Verify.Checks, name)
			continue
		}
		path := "verify.checks." + name
		set(path+".method", func() { c.Method = "GET" })
		set(path+".status", func() { c.Status = DefaultCheckStatus })
		set(path+".timeout", func() {
			c.Timeout = Duration(DefaultCheckTimeout)
			if !c.Run.Zero() {
				c.Timeout = Duration(DefaultRunCheckTimeout)
			}
		})
	}
	f.fillRollout(set)
}

func (f *File) fillRole(path string, r *Role, set func(string, func())) {
	set(path+".instances", func() {
		r.Instances = Both(Count(DefaultInstances))
		if r.Singleton || r.Schedule.Zone != nil {
			r.Instances = Both(Count(1))
		}
	})
	set(path+".drain", func() { r.Drain = Duration(DefaultDrain) })
	set(path+".timeout", func() { r.Timeout = Duration(JobTimeout) })
	set(path+".overlap", func() { r.Overlap = "skip" })
	if f.Has(path + ".hosts") {
		set(path+".paths", func() { r.Paths = []Prefix{"/"} })
		set(path+".tls", func() { r.TLS = "auto" })
	}
	if r.Probe == nil {
		if r.Static == "" {
			return
		}
		r.Probe = &Probe{HTTP: "/"}
	}
	set(path+".probe.every", func() { r.Probe.Every = Duration(DefaultProbeEvery) })
	set(path+".probe.timeout", func() {
		// A heartbeat or a short interval of one's own needs no second number.
		r.Probe.Timeout = min(Duration(DefaultProbeTimeout), max(r.Probe.Every/2, Duration(time.Millisecond)))
	})
	set(path+".probe.start_within", func() { r.Probe.StartWithin = Duration(DefaultStartWithin) })
}

func (f *File) fillRollout(set func(string, func())) {
	set("verify.error_rate", func() { f.Verify.ErrorRate = DefaultVerifyErrorRate })
	set("verify.latency", func() { f.Verify.Latency = DefaultVerifyLatency })
	if a := f.Gates.Approvals; a != nil {
		set("gates.approvals.expire", func() { a.Expire = Duration(DefaultApprovalExpire) })
	}
	set("rollout.strategy", func() { f.Rollout.Strategy = DefaultStrategy })
	set("rollout.split", func() {
		f.Rollout.Split = Visitor
		if f.Rollout.Strategy == Rolling { // nobody can be kept on a side whose instances go
			f.Rollout.Split = Request
		}
	})
	set("rollout.min_soak", func() { f.Rollout.MinSoak = Duration(DefaultMinSoak) })
	set("rollout.staging_hold", func() { f.Rollout.StagingHold = Duration(DefaultStagingHold) })
	set("rollout.steps", func() {
		f.Rollout.Steps = nil
		if f.Rollout.Strategy == Canary {
			f.Rollout.Steps = append([]Step(nil), DefaultSteps[:]...)
		}
	})
	set("guard.error_rate", func() { f.Guard.ErrorRate = Limit{DefaultGuardErrorRate, Duration(DefaultGuardErrorFor)} })
	set("guard.latency", func() { f.Guard.Latency = DefaultGuardLatency })
	set("guard.failed_probes", func() { f.Guard.FailedProbes = DefaultFailedProbes })
	set("guard.false_rollbacks", func() { f.Guard.FalseRollbacks = DefaultFalseRollbacks })
	set("guard.margin", func() { f.Guard.Margin = DefaultMargin })
	set("guard.error_floor", func() { f.Guard.ErrorFloor = DefaultErrorFloor })
	set("guard.undecided", func() { f.Guard.Undecided = "ladder" })
	set("monitor.for", func() { f.Monitor.For = Duration(DefaultMonitor) })
	set("monitor.holdback", func() {
		f.Monitor.Holdback = BlueGreenHoldback
		if f.Rollout.Strategy == Canary {
			f.Monitor.Holdback = CanaryHoldback
		}
	})
}
