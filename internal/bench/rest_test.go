package bench

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// calm is how long a server is left alone before it is weighed.
const calm = 10 * time.Second

// The start of serve on a folder that does not exist yet, and what its processes weigh when nothing is asked of them.
func BenchmarkStart(b *testing.B) {
	var ready times
	for b.Loop() {
		for range *starts {
			w := newWorld(b)
			ready = append(ready, w.ready)
			w.end()
		}
	}
	ready.report(b, "ready-")
	figures.add("`serve` ready on a fresh folder", ready.String(), "≤ 250 ms")
}

func BenchmarkRest(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		time.Sleep(calm)
		figures.add("`serve` at rest, fresh", memoryOf(w.serve.Process.Pid).String(), "≤ 60 MB")
		proxies := pidsOf(withVerb("proxy"))
		figures.add("proxy at rest, fresh, its holder and its worker together", memoryOf(proxies...).String(), "≤ 30 MB")
		p := w.newProject("bench", 2, "0s")
		p.commit()
		p.belay(0, "ship")
		time.Sleep(calm)
		figures.add("`serve` at rest after one delivery", memoryOf(w.serve.Process.Pid).String(), "≤ 60 MB")
		figures.add("proxy at rest after one delivery", memoryOf(proxies...).String(), "≤ 30 MB")
		shims := pidsOf(withVerb("shim"))
		m := memoryOf(shims...)
		n := float64(len(shims))
		figures.add(fmt.Sprintf("shim of one instance (mean of %d)", len(shims)), memory{m.rss / n, m.pss / n}.String(), "")
		b.ReportMetric(memoryOf(w.serve.Process.Pid).rss, "serve-MB")
		b.ReportMetric(memoryOf(proxies...).rss, "proxy-MB")
	}
}

// What many apps at rest cost: each has two instances in both environments.
func BenchmarkApps(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		began := time.Now()
		for n := range *apps {
			p := w.newProject(fmt.Sprintf("app-%d", n), 2, "0s")
			p.commit()
			p.belay(0, "ship")
		}
		figures.add(fmt.Sprintf("first deliveries of %d apps, one after the other", *apps), short(time.Since(began)), "")
		time.Sleep(calm)
		serve, proxies, shims := []int{w.serve.Process.Pid}, pidsOf(withVerb("proxy")), pidsOf(withVerb("shim"))
		watched := [][]int{serve, proxies, shims}
		var before [3]time.Duration
		for i, pids := range watched {
			before[i] = cpu(pids)
		}
		span := time.Minute
		time.Sleep(span)
		for i, name := range []string{"`serve`", "proxy", "shims"} {
			figures.add(fmt.Sprintf("%d apps at rest, %d instances: %s", *apps, len(shims), name),
				fmt.Sprintf("%s, %s CPU per minute", memoryOf(watched[i]...), short(cpu(watched[i])-before[i])), "")
		}
		b.ReportMetric(memoryOf(serve...).rss, "serve-MB")
		b.ReportMetric((cpu(serve) - before[0]).Seconds(), "serve-cpu-s/min")
		var status times
		for range 20 {
			began := time.Now()
			if _, err := w.api.Status(context.Background(), "app-0"); err != nil {
				b.Fatal(err)
			}
			status = append(status, time.Since(began))
		}
		figures.add(fmt.Sprintf("status of one of %d apps, asked over the socket", *apps), status.String(), "")
	}
}
