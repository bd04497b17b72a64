package demo

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "load":
			os.Exit(LoadMain(os.Args[2:]))
		case "serve", "-C":
			os.Exit(standInMain(os.Args[1:]))
		}
	}
	os.Exit(m.Run())
}

// buffer is an io.Writer for several writers.
type buffer struct {
	file *os.File
}

func newBuffer(t *testing.T) buffer {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return buffer{file}
}

func (b buffer) String() string {
	data, err := os.ReadFile(b.file.Name())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func TestDemoIsRedWhenRequestsFail(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the shop three times")
	}
	t.Setenv("STAND_IN_FAULT", "drop")
	t.Setenv("TMPDIR", t.TempDir())
	out := newBuffer(t)
	err := Run(t.Context(), Options{Out: out.file})
	if domain.CodeOf(err) != domain.Failed || !strings.Contains(out.String(), "requests failed during the good delivery; the first: ") {
		t.Fatalf("%v\n%s", err, out)
	}
	if left := descendants(os.Getpid()); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); len(left) > 0 {
		t.Errorf("folders are left: %v", left)
	}
}

func TestDemoEndsEverythingWhenStopped(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	out := newBuffer(t)
	go func() {
		for ctx.Err() == nil && !strings.Contains(out.String(), "1 of 3") {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	if err := Run(ctx, Options{Out: out.file}); err == nil {
		t.Fatal("no error")
	}
	if left := descendants(os.Getpid()); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
}

func TestDemoTellsWhatHappenedAndStays(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the shop three times")
	}
	t.Setenv("TMPDIR", t.TempDir())
	out := newBuffer(t)
	if err := Run(t.Context(), Options{Out: out.file, Stay: true}); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"requests failed because of the deployments", ": 0 of ", "it was caught and rolled back", "serves again: 0 of ", "all as it must be",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("without %q:\n%s", want, out)
		}
	}
	if len(descendants(os.Getpid())) == 0 {
		t.Fatal("nothing stayed")
	}
	scripts, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "belay-demo-*", "stop"))
	if len(scripts) != 1 || !strings.Contains(out.String(), scripts[0]) {
		t.Fatalf("scripts %v\n%s", scripts, out)
	}
	if text, err := exec.Command(scripts[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if left := descendants(os.Getpid()); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
	if _, err := os.Stat(filepath.Dir(scripts[0])); err == nil {
		t.Error("the folder is left")
	}
}

// The demonstration rests on this: the tests of the shop see neither change, the visitors see the bad one.
func TestTheTestsOfTheShopStayGreen(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the shop's tests")
	}
	repo, _, err := newRepository(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []change{goodChange, badChange} {
		if _, err := repo.change(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"test", "."}, {"test", "-tags", "integration", "-run", "Integration", "."}} {
			command := exec.Command("go", args...)
			command.Dir = repo.dir
			if out, err := command.CombinedOutput(); err != nil {
				t.Errorf("%s: go %v: %v\n%s", c.subject, args, err, out)
			}
		}
	}
	if err := badChange.apply(repo.dir); err == nil {
		t.Error("a change that does not fit was made")
	}
}

func TestMixTouchesEachItemEquallyOften(t *testing.T) {
	items, all := map[string]int{}, 0
	for n := range 80 {
		method, path, body := request(n)
		all++
		if id, ok := strings.CutPrefix(path, "/api/items/"); ok && method == http.MethodGet {
			items[id]++
		} else if path == "/api/cart" {
			items[strings.Trim(strings.TrimPrefix(body, `{"id": `), "}")]++
		}
	}
	for id := range shopItems {
		if items[strconv.Itoa(id+1)] != 3 {
			t.Errorf("item %d is touched %d times in %d requests, want 3", id+1, items[strconv.Itoa(id+1)], all)
		}
	}
}

// startLoad runs the traffic against a server for a moment.
func startLoad(t *testing.T, addr string, enough func(*tally) bool) *tally {
	t.Helper()
	run, err := startTraffic([]string{os.Args[0], "load"}, addr, productionHost, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !enough(&run.tally); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("too few requests")
		}
	}
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	return &run.tally
}

func (t *tally) all() period { return t.between(time.Time{}, time.Now().Add(time.Hour)) }

func TestTrafficCountsEachAnswer(t *testing.T) {
	var served, failed atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Belay-Release", "4f2c81a")
		if r.Host != productionHost {
			t.Errorf("host %s", r.Host)
		}
		if served.Add(1)%3 == 0 {
			failed.Add(1)
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer server.Close()
	seen := startLoad(t, server.Listener.Addr().String(), func(*tally) bool { return served.Load() >= 50 }).all()
	if int64(len(seen)) != served.Load() || int64(len(seen.failures())) != failed.Load() || len(seen.of("4f2c81a")) != len(seen) {
		t.Errorf("%d served, %d failed; seen %d, %d failed", served.Load(), failed.Load(), len(seen), len(seen.failures()))
	}
}

// A connection that is reset, and an answer that is cut short, are failures, and nothing is asked twice.
func TestTrafficCountsBrokenConnections(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		n := asked.Add(1)
		if n%2 == 0 {
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if n%4 == 1 {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}))
	defer server.Close()
	seen := startLoad(t, server.Listener.Addr().String(), func(*tally) bool { return asked.Load() >= 40 }).all()
	n := int(asked.Load())
	if len(seen) != n || len(seen.failures()) != (n+1)/2 {
		t.Errorf("%d asked; seen %d, %d failed", n, len(seen), len(seen.failures()))
	}
}

func TestEndAllFindsOrphans(t *testing.T) {
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	// The middle process ends at once, so the last one loses its parent; it also ignores TERM.
	out, err := exec.Command("sh", "-c", `setsid sh -c 'trap "" TERM; while :; do sleep 1; done' >/dev/null 2>&1 & echo $!`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if len(descendants(os.Getpid())) == 0 {
		t.Fatalf("process %s is not found", out)
	}
	if err := endAll(200*time.Millisecond, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if left := descendants(os.Getpid()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestParseStatWithOddNames(t *testing.T) {
	p, ok := parseStat("42 (a) R (b) S 7 42 42 0")
	if !ok || p != (process{pid: 42, parent: 7}) {
		t.Errorf("%+v %v", p, ok)
	}
	for _, text := range []string{"", "42", "42 (x", "x (y) S z", "1 (y) S"} {
		if _, ok := parseStat(text); ok {
			t.Errorf("%q was read", text)
		}
	}
}

func TestJudgeNamesWhatIsWrong(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	second := func(n float64) time.Time { return at.Add(time.Duration(n * float64(time.Second))) }
	first := release{commit: "aaaaaaa1"}
	good := release{commit: "bbbbbbb1", from: second(0), to: second(10)}
	bad := release{commit: "ccccccc1", from: second(10), to: second(20)}
	sound := period{}
	for n := range 30 {
		by := []string{"aaaaaaa", "bbbbbbb", "bbbbbbb"}[n/10]
		status := 200
		if n >= 10 && n < 20 && n >= 15 {
			by = "ccccccc"
		}
		if n == 15 || n == 17 {
			status = 500
		}
		sound = append(sound, sample{begin: second(float64(n)), status: status, release: by, what: "GET /"})
	}
	sound[8].release = "bbbbbbb"
	if s := judge(first, good, bad, sound); len(s.wrong) > 0 {
		t.Fatalf("sound traffic is wrong: %v", s.wrong)
	} else if !strings.Contains(strings.Join(s.sentences, "\n"), "4.0 s from the first failed request") {
		t.Errorf("%s", strings.Join(s.sentences, "\n"))
	}
	for want, change := range map[string]func(period){
		"1 requests failed during the good delivery":           func(p period) { p[3].status = 503 },
		"1 requests failed during the good delivery; the firs": func(p period) { p[3].status = 0 },
		"on releases other than the bad one":                   func(p period) { p[12].status = 502 },
		"after the rollback 1 of 10 requests":                  func(p period) { p[29].release = "ccccccc" },
		"no request reached ccccccc":                           func(p period) { relabel(p, "ccccccc", "bbbbbbb") },
		"ccccccc failed 0 % of its requests":                   func(p period) { p[15].status, p[17].status = 200, 200 },
		"was answered by bbbbbbb: traffic did not move":        func(p period) { p[8].release = "aaaaaaa" },
	} {
		p := append(period(nil), sound...)
		change(p)
		if s := judge(first, good, bad, p); !strings.Contains(strings.Join(s.wrong, "\n"), want) {
			t.Errorf("want %q in %v", want, s.wrong)
		}
	}
}

func relabel(p period, from, to string) {
	for i := range p {
		if p[i].release == from {
			p[i].release = to
		}
	}
}

func TestTallyRefusesNonsense(t *testing.T) {
	var seen tally
	if err := seen.read(bytes.NewBufferString("1 2 200 - GET /\nnonsense\n")); err == nil || len(seen.samples) != 1 {
		t.Errorf("%v, %d samples", err, len(seen.samples))
	}
}
