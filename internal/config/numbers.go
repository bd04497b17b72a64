package config

import (
	"fmt"
	"time"
)

// Number is one number of the specification that no key sets, for the reference page.
type Number struct{ What, Value string }

// Numbers lists the numbers that no key sets.
func Numbers() []Number {
	d := func(what string, v time.Duration) Number { return Number{what, formatDuration(v)} }
	n := func(what string, v any) Number { return Number{what, fmt.Sprint(v)} }
	return []Number{
		d("time between TERM and KILL", KillAfter),
		d("drain of an upgraded connection", WebSocketDrain),
		d("the same on a rollback", RollbackWebSocketDrain),
		d("time between two scrapes of an instance", MetricsEvery),
		d("age below which an instance counts for no latency trigger", WarmUp),
		d("time between two probes of a critical check", CriticalEvery),
		n("answers with 5xx in a row of a critical check that roll back", CriticalFailures),
		n("times as frequent errors may be without being harm to the judge", JudgeRatio),
		d("difference of latency below which nothing is harm to the judge", JudgeGrain),
		n("requests to next from which a p95 beyond half of the margin is told", SlowerRequests),
		n("chance that a release that is worse is called proved", Percent(JudgeBeta)),
		d("how long the latency trigger must hold", GuardLatencyFor),
		n("least number of requests for the latency trigger", GuardLatencyRequests),
		d("what a step's deadline adds to its hold", StepSlack),
		d("deadline of a rollback, then somebody is paged", RollbackDeadline),
		d("time between two pages after that", RollbackPageEvery),
		d("how long a verification in staging holds", EvidenceFor),
		n("share of a bake's measurements that must have been seen", Percent(BakeObserved)),
		d("silence of measurements after which nothing shifts up", NoTicksHold),
		n("requests to next in a step that are enough to go on when there was no harm", LadderRequests),
		n("rounds of the app's own flows that stand for them, one a second", LadderFlows),
		d("how long an undecided step waits for a person", AskExpire),
		d("time before a rollout that it is compared with, without the times of builds", BaselineFor),
		n("synthetic requests a second while staging's rollback is rehearsed", RehearsalLoad),
		d("longest hold of a step of an urgent delivery", UrgentBake),
		n("releases kept, besides every rollback target", KeepReleases),
		d("how long releases are kept at least", KeepFor),
		n("size of an instance's log before it is rotated", fmt.Sprintf("%d MB", LogSize/1_000_000)),
		n("rotated logs kept", LogFiles),
		d("how long measurements are kept", KeepTicks),
		d("time for the header of a request", ProxyHeaderTimeout),
		n("largest header of a request", Size(ProxyHeaderBytes)),
		d("absence of the server after which the proxy itself watches next", DeadManAfter),
		n("least number of requests for that rule", DeadManRequests),
		n("share of failures above which it takes next back", Percent(DeadManErrorRate)),
		n("shortest Monitor outside the demo", formatDuration(MinMonitor)),
	}
}
