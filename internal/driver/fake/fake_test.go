package fake_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/drivertest"
	"github.com/belay-cd/belay/internal/driver/fake"
)

func instance(release string, index int, b drivertest.Behaviour, within time.Duration) domain.Instance {
	run := map[drivertest.Behaviour]string{
		drivertest.NeverReady: "never", drivertest.Crashes: "crash", drivertest.Stubborn: "stubborn",
	}[b]
	return domain.Instance{
		InstanceID: domain.InstanceID{App: "shop", Environment: domain.Production, Release: release, Role: "web", Index: index},
		Workload:   domain.Workload{Run: run, Probe: domain.Probe{HTTP: "/", Every: time.Second, StartWithin: within}},
	}
}

func script(inst domain.Instance) fake.Script {
	switch inst.Workload.Run {
	case "never":
		return fake.Script{Never: true, Message: "503"}
	case "crash":
		return fake.Script{Crashes: true}
	case "stubborn":
		return fake.Script{Stop: time.Hour}
	}
	return fake.Script{Ready: 100 * time.Millisecond}
}

func TestConformance(t *testing.T) {
	drivertest.RunIn(t, synctest.Test, func(*testing.T) drivertest.Subject {
		d := fake.New()
		d.Script = script
		return drivertest.Subject{
			Driver: d, Instance: instance,
			Crash: func(_ *testing.T, id domain.InstanceID) { d.Crash(id, "") },
		}
	})
}

func TestFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fake.New()
		d.Script = func(domain.Instance) fake.Script { return fake.Script{Ready: 40 * time.Second} }
		probes, changes := d.Probes(t.Context()), d.Changes(t.Context())
		inst := instance("rel_1", 0, drivertest.Good, time.Minute)
		began := time.Now()
		if _, err := d.Start(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 40*time.Second {
			t.Errorf("healthy after %s, want 40s", took)
		}
		if r := <-probes; !r.OK {
			t.Errorf("first answer %+v", r)
		}
		d.Break(inst.InstanceID, "500")
		for range 2 {
			if r := <-probes; r.OK || r.Message != "500" {
				t.Errorf("broken, but %+v", r)
			}
		}
		synctest.Wait()
		for _, want := range []domain.InstanceState{domain.Starting, domain.Healthy, domain.Unhealthy} {
			if got := <-changes; got.State != want {
				t.Errorf("changed to %s, want %s", got.State, want)
			}
		}
	})
}
