package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/proxy"
)

// front is a proxy before two instances of stable, or of next.
type front interface {
	name() string
	addr() string
	pids() []int
	// point makes all new requests go to the addresses.
	point(addrs []string) error
}

// rounds is how often each kind is measured with each proxy, in turns: a machine that others use too is never the same for
// long.
const rounds = 3

// BenchmarkProxy counts what a request costs the proxy in CPU time, and what visitors notice when all traffic moves from
// one release to another, ten times.
func BenchmarkProxy(b *testing.B) {
	binaries(b)
	stable, next := startApps(b), startApps(b)
	fronts := []front{newBelayFront(b, stable)}
	if *peers {
		fronts = append(fronts, newNginx(b, stable), newHAProxy(b, stable), newCaddy(b, stable))
	}
	b.Cleanup(endDescendants)
	for b.Loop() {
		for _, kind := range []string{small, large, post} {
			costs := map[string][]float64{}
			for range rounds {
				for _, f := range fronts {
					costs[f.name()] = append(costs[f.name()], cost(b, f, kind))
				}
			}
			base := median(costs[fronts[0].name()])
			for _, f := range fronts {
				figure := fmt.Sprintf("%.0f (%.0f … %.0f)", median(costs[f.name()]), slices.Min(costs[f.name()]), slices.Max(costs[f.name()]))
				if f != fronts[0] {
					figure += fmt.Sprintf("; Belay takes %.2f × of it", base/median(costs[f.name()]))
				}
				figures.add(fmt.Sprintf("%s: CPU seconds per million: %s", kind, f.name()), figure, "")
			}
			b.ReportMetric(base, "cpu-s/M-"+map[string]string{small: "get", large: "64KiB", post: "post"}[kind])
		}
		for _, f := range fronts {
			figures.add("memory after that: "+f.name(), memoryOf(f.pids()...).String(), "")
		}
		for _, f := range fronts {
			seen := cutovers(b, f, stable, next)
			figure := fmt.Sprintf("%d of %d requests", seen.Failed, seen.Answered+seen.Failed)
			if seen.Failed > 0 {
				figure += " (" + seen.Why + ")"
			}
			goal := ""
			if f == fronts[0] {
				goal = "0"
			}
			figures.add("failed in 10 cutovers: "+f.name(), figure, goal)
		}
	}
}

// cost returns the CPU seconds that a million requests of a kind take in the proxy, without client and instances.
func cost(b *testing.B, f front, kind string) float64 {
	b.Helper()
	run := func(n int) visited {
		return startClient(b, "-addr", f.addr(), "-kind", kind, "-n", fmt.Sprint(n)).wait(b)
	}
	run(*requests / 20) // warm
	before := cpu(f.pids())
	seen := run(*requests)
	used := cpu(f.pids()) - before
	if seen.Failed > 0 {
		b.Errorf("%s, %s: %d of %d failed: %s", f.name(), kind, seen.Failed, *requests, seen.Why)
	}
	return used.Seconds() * 1e6 / float64(*requests)
}

// cutovers moves all traffic ten times while fifty visitors ask twenty times a second each.
func cutovers(b *testing.B, f front, stable, next []string) visited {
	b.Helper()
	c := startClient(b, "-addr", f.addr(), "-conns", "50", "-pace", "50ms")
	for n := range 10 {
		time.Sleep(time.Second)
		to := next
		if n%2 == 1 {
			to = stable
		}
		if err := f.point(to); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second)
	return c.stop(b)
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// startApps runs two instances of the app.
func startApps(b *testing.B) []string {
	b.Helper()
	_, app := binaries(b)
	var addrs []string
	for range 2 {
		addr := freeAddress(b)
		startProcess(b, app, addr)
		awaitAddress(b, addr)
		addrs = append(addrs, addr)
	}
	return addrs
}

// startProcess runs a program until the end of the benchmarks.
func startProcess(b *testing.B, program string, args ...string) int {
	b.Helper()
	log, err := os.Create(filepath.Join(built.dir, filepath.Base(program)+".log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "HOME="+built.dir, "XDG_CONFIG_HOME="+built.dir, "XDG_DATA_HOME="+built.dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd.Process.Pid
}

func awaitAddress(b *testing.B, addr string) {
	b.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			logs, _ := filepath.Glob(filepath.Join(built.dir, "*.log"))
			for _, log := range logs {
				text, _ := os.ReadFile(log)
				b.Logf("%s:\n%s", filepath.Base(log), text[max(0, len(text)-2000):])
			}
			b.Fatal(err)
		}
	}
}

// belayFront is this program's own proxy.
type belayFront struct {
	client *proxy.Client
	http   string
	epoch  int
	procs  []int
}

func newBelayFront(b *testing.B, addrs []string) *belayFront {
	b.Helper()
	belay, _ := binaries(b)
	dir, err := os.MkdirTemp(built.dir, "proxy-")
	if err != nil {
		b.Fatal(err)
	}
	c := proxy.Config{Binary: belay, Socket: filepath.Join(dir, "proxy.sock"), Table: filepath.Join(dir, "table", "json"),
		HTTP: []string{freeAddress(b)}, Log: filepath.Join(dir, "log")}
	if err := proxy.Spawn(context.Background(), c); err != nil {
		b.Fatal(err)
	}
	f := &belayFront{client: proxy.NewClient(c.Socket), http: c.HTTP[0], procs: pidsOf(withVerb("proxy"))}
	b.Cleanup(f.client.Close)
	if err := f.point(addrs); err != nil {
		b.Fatal(err)
	}
	return f
}

func (f *belayFront) name() string { return "Belay" }
func (f *belayFront) addr() string { return f.http }
func (f *belayFront) pids() []int  { return f.procs }

func (f *belayFront) point(addrs []string) error {
	f.epoch++
	r := benchRoute(f.epoch, addrs, nil)
	r.Stable.Release += fmt.Sprint(f.epoch)
	_, err := f.client.Put(context.Background(), r)
	return err
}
