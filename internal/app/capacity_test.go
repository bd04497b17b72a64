package app

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
)

// roomy is a machine that has room for everything.
func roomy() room {
	return room{memory: 64 << 30, disk: 500 << 30, files: 1 << 20, perProcess: 1 << 16}
}

func shop(id string, workloads ...domain.Workload) domain.Release {
	return domain.Release{ID: id, App: "shop", Environment: domain.Production, Commit: "abcdef0123", Workloads: workloads}
}

func webRole(n int, memory int64, env map[string]string) domain.Workload {
	return domain.Workload{Role: "web", Kind: domain.Web, Instances: n, Memory: memory, Env: env}
}

// runs are the instances of a release as they are recorded.
func runs(rel domain.Release) []domain.Instance {
	var all []domain.Instance
	for _, w := range rel.Workloads {
		for i := range w.Instances {
			all = append(all, domain.Instance{InstanceID: domain.InstanceID{App: rel.App, Environment: rel.Environment, Release: rel.ID,
				Role: w.Role, Index: i}, Workload: w})
		}
	}
	return all
}

func TestSumIsShown(t *testing.T) {
	pool := map[string]string{"DB_POOL": "10"}
	stable := shop("rel_1", webRole(3, 512<<20, pool))
	next := shop("rel_2", webRole(3, 512<<20, pool), domain.Workload{Role: "mail", Kind: domain.Worker, Instances: 1})
	has := roomy()
	has.connections = 100
	text, err := reckon(next, 0, runs(stable), has)
	want := `memory    web 3 × 512.0 MiB, a fifth to spare: 1.8 GiB of 64.0 GiB free; mail sets no memory, so it is not counted
disk      500.0 GiB free, 256.0 MiB of it kept free
files     4 × 1024 open files and a fifth to spare are 4915, 1048576 free; 65536 for each process
database  web 3 × 10 (DB_POOL) + running web 3 × 10 (DB_POOL) = 60 connections of 100`
	if err != nil || text != want {
		t.Errorf("%v\n%s\nwant\n%s", err, text, want)
	}
	has.connections = 0
	text, err = reckon(next, 1, runs(stable), has)
	if err != nil || !strings.Contains(text, "web 1 × 512.0 MiB, a fifth to spare: 614.4 MiB") ||
		!strings.Contains(text, "web 1 × 10 (DB_POOL) + running web 3 × 10 (DB_POOL) = 40 connections; how many it takes is not known") {
		t.Errorf("rolling: %v\n%s", err, text)
	}
}

// Each refusal names the sum, and what to do. A little less and there is room.
func TestRefusalsNameTheSum(t *testing.T) {
	pool := map[string]string{"DATABASE_URL": "postgres://u:secret@db/shop?pool_max_conns=25"}
	stable, next := shop("rel_1", webRole(2, 1<<30, pool)), shop("rel_2", webRole(2, 1<<30, pool))
	for name, c := range map[string]struct {
		short, enough func(*room)
		want, hint    string
	}{
		"memory": {
			func(r *room) { r.memory = 2<<30 + 400<<20 }, func(r *room) { r.memory = 2<<30 + 410<<20 },
			"no room for abcdef0: web 2 × 1.0 GiB and a fifth to spare are 2.4 GiB, 2.4 GiB of memory are free", "fewer instances",
		},
		"disk": {
			func(r *room) { r.disk = 100 << 20 }, func(r *room) { r.disk = 256 << 20 },
			"no room for abcdef0: 100.0 MiB are free on the disk, 256.0 MiB must stay free", "free space",
		},
		"files": {
			func(r *room) { r.files = 2000 }, func(r *room) { r.files = 2458 },
			"no room for abcdef0: 2 × 1024 open files and a fifth to spare are 2457, the machine can open 2000 more", "fs.file-max",
		},
		"files of a process": {
			func(r *room) { r.perProcess = 256 }, func(r *room) { r.perProcess = 1024 },
			"no room for abcdef0: a process may open 256 files here, an instance is reckoned with 1024", "LimitNOFILE",
		},
		"connections": {
			func(r *room) { r.connections = 97 }, func(r *room) { r.connections = 100 },
			"no room for abcdef0: web 2 × 25 (pool_max_conns of DATABASE_URL) + running web 2 × 25 (pool_max_conns of DATABASE_URL) = 100 connections, the database takes 97",
			"smaller pools",
		},
	} {
		has := roomy()
		c.short(&has)
		text, err := reckon(next, 0, runs(stable), has)
		if domain.CodeOf(err) != domain.Refused || err.Error() != c.want || !strings.Contains(domain.HintOf(err), c.hint) {
			t.Errorf("%s: %v (%s)", name, err, domain.HintOf(err))
		}
		if strings.Contains(text, "secret") {
			t.Errorf("%s: it shows a secret: %s", name, text)
		}
		c.enough(&has)
		if _, err := reckon(next, 0, runs(stable), has); err != nil {
			t.Errorf("%s: enough is refused: %v", name, err)
		}
	}
}

// What is reckoned is what starts: nothing that runs already, nothing that is handed over, and no more than the surge.
func TestWhatStarts(t *testing.T) {
	single := domain.Workload{Role: "tick", Kind: domain.Singleton, Instances: 1}
	stable, next := shop("rel_1", webRole(3, 0, nil), single), shop("rel_2", webRole(3, 0, nil), single)
	resumed := append(runs(stable), runs(next)[:2]...)
	other := runs(stable)
	for i := range other {
		other[i].App = "blog"
	}
	for name, c := range map[string]struct {
		surge   int
		running []domain.Instance
		want    map[string]int
	}{
		"first release":            {0, nil, map[string]int{"web": 3, "tick": 1}},
		"first release, rolling":   {1, other, map[string]int{"web": 3, "tick": 1}},
		"all beside stable":        {0, runs(stable), map[string]int{"web": 3}},
		"one after the other":      {1, runs(stable), map[string]int{"web": 1}},
		"goes on after a restart":  {0, resumed, map[string]int{"web": 1}},
		"all of it runs":           {0, append(runs(stable), runs(next)...), map[string]int{}},
		"rolling, goes on further": {1, resumed, map[string]int{}},
	} {
		got := map[string]int{}
		for _, m := range starting(next, c.surge, c.running) {
			got[m.Role] = m.count
		}
		if len(got) != len(c.want) || got["web"] != c.want["web"] || got["tick"] != c.want["tick"] {
			t.Errorf("%s: %v starts, want %v", name, got, c.want)
		}
	}
}

func TestPoolOf(t *testing.T) {
	for text, c := range map[string]struct {
		env  map[string]string
		size int
	}{
		"none":             {nil, 0},
		"by variable":      {map[string]string{"DATABASE_POOL_SIZE": " 7 "}, 7},
		"by url":           {map[string]string{"DATABASE_URL": "postgres://x/y?connection_limit=5"}, 5},
		"particular first": {map[string]string{"DB_POOL": "9", "RAILS_MAX_THREADS": "5"}, 9},
		"no number":        {map[string]string{"DB_POOL": "many"}, 0},
		"negative":         {map[string]string{"DB_POOL": "-3"}, 0},
		"too much":         {map[string]string{"DB_POOL": "99999999999"}, 0},
		"broken url":       {map[string]string{"DATABASE_URL": "postgres://%zz?pool=3"}, 0},
	} {
		if _, size := poolOf(c.env); size != c.size {
			t.Errorf("%s: %d, want %d", text, size, c.size)
		}
	}
}

// The real machine answers, and a release that no machine holds is refused.
func TestCapacityOfThisMachine(t *testing.T) {
	r := quietRunner(t)
	text, err := r.Capacity(t.Context(), shop("rel_1", webRole(2, 1<<20, nil)), 0)
	if err != nil || strings.Count(text, "\n") != 2 {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := r.Capacity(t.Context(), shop("rel_1", webRole(2, 1<<50, nil)), 0); domain.CodeOf(err) != domain.Refused {
		t.Errorf("a pebibyte of memory: %v", err)
	}
	r.connections = func(context.Context, domain.Release) int { return 3 }
	if _, err := r.Capacity(t.Context(), shop("rel_1", webRole(2, 0, map[string]string{"DB_POOL": "2"})), 0); domain.CodeOf(err) != domain.Refused {
		t.Errorf("4 of 3 connections: %v", err)
	}
	outside := shop("rel_1", webRole(1, 1<<50, nil))
	outside.External = "127.0.0.1:1"
	if _, err := r.Capacity(t.Context(), outside, 0); err != nil {
		t.Errorf("an app that runs already: %v", err)
	}
}

// nothing holds no artifact.
type nothing struct{}

func (nothing) Unpack(context.Context, string) (string, error) {
	return "", errors.New("no such artifact")
}

// quietRunner has a driver that runs nothing.
func quietRunner(t *testing.T) *runner {
	t.Helper()
	data := t.TempDir()
	driver, err := process.New(process.Config{Data: data, Artifacts: nothing{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Error(err)
		}
	})
	return &runner{Driver: driver, data: data}
}
