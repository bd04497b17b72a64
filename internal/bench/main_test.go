// Package bench measures the real program: how long it takes, what it weighs at rest, and how both grow. It asserts nothing:
// figures belong to the machine that they were taken on. `make bench` runs it.
package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// How much is measured. The defaults fit `make bench` into a few minutes.
var (
	starts     = flag.Int("starts", 20, "fresh starts of serve")
	deliveries = flag.Int("deliveries", 10, "deliveries of commands that do nothing")
	rollbacks  = flag.Int("rollbacks", 20, "rollbacks by command line, each of a delivery of its own")
	apps       = flag.Int("apps", 20, "apps at rest")
	stored     = flag.Int("stored", 1000, "deliveries in the store")
	requests   = flag.Int("requests", 30_000, "requests of each kind through each proxy")
	peers      = flag.Bool("peers", false, "measure nginx, HAProxy and Caddy too; they must be in the path")
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "visit" {
		os.Exit(visitMain(os.Args[2:]))
	}
	// Whatever outlives the daemon on purpose stays known here: its orphans come to this process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	figures.print()
	endDescendants()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// figures is the table that is printed at the end.
var figures table

type table struct{ rows [][3]string }

// add remembers one row: what was measured, the figure, and what it is meant to be ("" for nothing in particular).
func (t *table) add(what, figure, goal string) {
	t.rows = append(t.rows, [3]string{what, figure, goal})
}

func (t *table) print() {
	if len(t.rows) == 0 {
		return
	}
	load, _ := os.ReadFile("/proc/loadavg")
	busy, _, _ := strings.Cut(string(load), " ")
	fmt.Printf("\n%d cores, %s of load in the last minute\n", runtime.NumCPU(), busy)
	fmt.Printf("\n| what | measured | goal |\n|---|---|---|\n")
	for _, r := range t.rows {
		fmt.Printf("| %s | %s | %s |\n", r[0], r[1], r[2])
	}
	fmt.Println()
}

// built are the programs that are measured, built once. BELAY_BINARY names one that is built already.
var built struct {
	once       sync.Once
	dir        string
	belay, app string
	err        error
}

func binaries(b *testing.B) (belay, app string) {
	b.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "belay-bench-"); built.err != nil {
			return
		}
		if built.err = os.Chmod(built.dir, 0o755); built.err != nil {
			return
		}
		built.belay, built.app = filepath.Join(built.dir, "belay"), filepath.Join(built.dir, "app")
		if built.err = build("./testdata/app", built.app); built.err != nil {
			return
		}
		if given := os.Getenv("BELAY_BINARY"); given != "" {
			built.belay = given
			return
		}
		built.err = build("../../cmd/belay", built.belay)
	})
	if built.err != nil {
		b.Fatal(built.err)
	}
	return built.belay, built.app
}

func build(pkg, out string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, text)
	}
	return nil
}

// times is a series of measured times.
type times []time.Duration

func (s times) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// String is the median and the spread.
func (s times) String() string {
	return fmt.Sprintf("%s (%s … %s, %d times)", short(s.quantile(0.5)), short(slices.Min(s)), short(slices.Max(s)), len(s))
}

// short rounds to three digits.
func short(d time.Duration) string {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
}

func (s times) report(b *testing.B, prefix string) {
	b.ReportMetric(float64(s.quantile(0.5))/1e6, prefix+"p50-ms")
	b.ReportMetric(float64(s.quantile(0.99))/1e6, prefix+"p99-ms")
}
