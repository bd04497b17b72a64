package check_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/domain"
)

func one(t *testing.T, r *check.Runner, c check.Check, target check.Target) check.Result {
	t.Helper()
	if c.Name == "" {
		c.Name = "it"
	}
	results := r.Run(t.Context(), []check.Check{c}, target)
	if len(results) != 1 {
		t.Fatalf("%d results", len(results))
	}
	return results[0]
}

func expect(t *testing.T, res check.Result, state check.State, parts ...string) {
	t.Helper()
	if res.State != state {
		t.Errorf("state %s, want %s: %s", res.State, state, res.Message)
	}
	for _, p := range parts {
		if !strings.Contains(res.Message, p) {
			t.Errorf("message %q lacks %q", res.Message, p)
		}
	}
}

func app(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/items", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"items":[{"id":7,"name":"tea","price":1.50,"tags":null}],"db.main":{"up":true},"count":12345678901234567890}`)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s host=%s key=%s query=%s body=%s", r.Method, r.URL.Path, r.Host, r.Header.Get("X-Key"), r.URL.RawQuery, body)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/items", http.StatusFound) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(300 * time.Millisecond):
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "<h1>panic:\n\tno rows\x1b[31m</h1>"+strings.Repeat("z", 5000)+"THE END")
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func TestHTTP(t *testing.T) {
	srv := app(t)
	target := check.Target{URL: srv.URL, Host: "api.shop.example", Env: map[string]string{"API_KEY": "k-1"}}
	r := &check.Runner{}
	for name, c := range map[string]struct {
		http  check.HTTP
		state check.State
		parts []string
	}{
		"passes":        {check.HTTP{Path: "/items"}, check.Passed, []string{"GET /items: 200 in"}},
		"json":          {check.HTTP{Path: "/items", JSON: map[string]string{"items.0.id": "*", "items.0.name": "tea", "items.0.price": "1.5", "db.main.up": "true", "count": "12345678901234567890"}}, check.Passed, nil},
		"json differs":  {check.HTTP{Path: "/items", JSON: map[string]string{"items.0.name": "coffee"}}, check.Failed, []string{`expected items.0.name to be coffee, is "tea"`, `body: {"items"`}},
		"json absent":   {check.HTTP{Path: "/items", JSON: map[string]string{"items.1.id": "*"}}, check.Failed, []string{"expected items.1.id to be present"}},
		"json null":     {check.HTTP{Path: "/items", JSON: map[string]string{"items.0.tags": "*"}}, check.Failed, []string{"items.0.tags"}},
		"json big":      {check.HTTP{Path: "/items", JSON: map[string]string{"items": "x"}}, check.Failed, []string{"expected items to be x, is [{"}},
		"no json":       {check.HTTP{Path: "/echo", Status: 201, JSON: map[string]string{"a": "*"}}, check.Failed, []string{"expected JSON: ", "body: GET /echo"}},
		"sends":         {check.HTTP{Path: "/echo?a=1", Method: "POST", Send: "hello", Headers: map[string]string{"X-Key": "key $API_KEY ${API_KEY} $5 $NOT"}, Status: 201, Body: "POST /echo host=api.shop.example key=key k-1 ${API_KEY} $5 $NOT query=a=1 body=hello"}, check.Passed, nil},
		"host header":   {check.HTTP{Path: "/echo", Status: 201, Headers: map[string]string{"host": "other.example"}, Body: "host=other.example "}, check.Passed, nil},
		"status":        {check.HTTP{Path: "/nowhere"}, check.Failed, []string{"expected 200, got 404", "body: 404 page not found"}},
		"redirect":      {check.HTTP{Path: "/moved"}, check.Failed, []string{"expected 200, got 302"}},
		"redirect ok":   {check.HTTP{Path: "/moved", Status: 302}, check.Passed, nil},
		"body":          {check.HTTP{Path: "/items", Body: "coffee"}, check.Failed, []string{`expected "coffee" in the body`}},
		"within":        {check.HTTP{Path: "/slow", Within: 100 * time.Millisecond}, check.Failed, []string{"expected within 100ms, took 3"}},
		"head":          {check.HTTP{Path: "/items", Method: "HEAD"}, check.Passed, nil},
		"500":           {check.HTTP{Path: "/broken"}, check.Failed, []string{"expected 200, got 500; body: <h1>panic: no rows·[31m</h1>zzz", " …"}},
		"endless":       {check.HTTP{Path: "/endless", Body: "x"}, check.Failed, []string{`expected "x" in the first MiB of the body`}},
		"bad path":      {check.HTTP{Path: "/%zz"}, check.Failed, []string{"invalid URL escape"}},
		"several wrong": {check.HTTP{Path: "/nowhere", Body: "tea"}, check.Failed, []string{"expected 200, got 404", `expected "tea"`}},
	} {
		t.Run(name, func(t *testing.T) {
			res := one(t, r, check.Check{HTTP: &c.http}, target)
			expect(t, res, c.state, c.parts...)
			if strings.Contains(res.Message, "THE END") || strings.ContainsAny(res.Message, "\n\x1b") {
				t.Errorf("the body was not shortened or cleaned: %q", res.Message)
			}
			if res.Attempts != 1 || res.Kind != check.KindHTTP || res.At.IsZero() {
				t.Errorf("%+v", res)
			}
		})
	}
}

func TestHTTPTimeout(t *testing.T) {
	srv := app(t)
	start := time.Now()
	res := one(t, &check.Runner{}, check.Check{HTTP: &check.HTTP{Path: "/hang"}, Timeout: 200 * time.Millisecond}, check.Target{URL: srv.URL})
	expect(t, res, check.Failed, "GET /hang: no answer within 200ms")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestHTTPWithoutAddress(t *testing.T) {
	res := one(t, &check.Runner{}, check.Check{HTTP: &check.HTTP{Path: "/"}}, check.Target{})
	expect(t, res, check.NotChecked, "not checked: no source")
}

// A listener that opens while the check runs: the second try passes, and says that it was one.
func TestHTTPConfirmsAConnectionError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int32
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { accepted.Add(1) })}
	defer func() { _ = srv.Close() }()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // the first one is reset
		_ = conn.Close()
		_ = srv.Serve(l)
	}()
	res := one(t, &check.Runner{}, check.Check{HTTP: &check.HTTP{Path: "/"}}, check.Target{URL: "http://" + l.Addr().String()})
	expect(t, res, check.Passed, "200", "(try 2, after a failed connection)")
	if res.Attempts != 2 || accepted.Load() != 1 {
		t.Errorf("%d attempts, %d answered", res.Attempts, accepted.Load())
	}
}

func TestHTTPRetriesNothingElse(t *testing.T) {
	var hits atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler) // the app may have acted on it
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	for _, method := range []string{"GET", "POST"} {
		hits.Store(0)
		res := one(t, &check.Runner{}, check.Check{HTTP: &check.HTTP{Path: "/", Method: method}}, check.Target{URL: srv.URL})
		expect(t, res, check.Failed)
		if hits.Load() != 1 || res.Attempts != 1 {
			t.Errorf("%s: %d requests, %d attempts", method, hits.Load(), res.Attempts)
		}
	}
	refused := one(t, &check.Runner{}, check.Check{HTTP: &check.HTTP{Path: "/"}, Attempts: 1}, check.Target{URL: "http://127.0.0.1:1"})
	expect(t, refused, check.Failed, "connection refused")
	if refused.Attempts != 1 {
		t.Errorf("%d attempts, 1 was given", refused.Attempts)
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	expect(t, one(t, &check.Runner{}, check.Check{TCP: addr}, check.Target{}), check.Passed, addr+" accepts connections")
	_ = l.Close()
	expect(t, one(t, &check.Runner{}, check.Check{TCP: addr}, check.Target{}), check.Failed, "expected "+addr+" to accept a connection", "refused")
}

// shell runs flows as real processes.
type shell struct{}

func (shell) Exec(ctx context.Context, c check.Command) (check.Outcome, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", c.Run)
	cmd.WaitDelay = time.Second
	cmd.Env = os.Environ()
	for k, v := range c.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	return check.Outcome{Code: cmd.ProcessState.ExitCode(), Output: string(out)}, err
}

func TestRun(t *testing.T) {
	target := check.Target{URL: "http://127.0.0.1:9", Env: map[string]string{"BELAY_ENV": "staging"}}
	r := &check.Runner{Exec: shell{}}
	expect(t, one(t, r, check.Check{Run: `test "$BELAY_URL" = http://127.0.0.1:9 && test "$BELAY_ENV" = staging`}, target), check.Passed, "exit 0")
	expect(t, one(t, r, check.Check{Run: "echo booking lost; exit 3"}, target), check.Failed, "expected exit 0, got 3; output: booking lost")
	expect(t, one(t, r, check.Check{Run: "echo began; exec sleep 60", Timeout: 300 * time.Millisecond}, target), check.Failed, "no answer within 300ms", "began")
	expect(t, one(t, &check.Runner{}, check.Check{Run: "true"}, target), check.NotChecked)
	long := one(t, r, check.Check{Run: "seq 1 100000; echo it broke; exit 1"}, target)
	expect(t, long, check.Failed, "it broke")
	if len(long.Message) > 5000 {
		t.Errorf("a message of %d bytes", len(long.Message))
	}
}

// less is an expression name < limit.
type less struct {
	name  string
	limit float64
}

func (l less) String() string { return fmt.Sprintf("%s < %g", l.name, l.limit) }

func (l less) Eval(lookup func(string) (float64, bool)) (bool, error) {
	v, ok := lookup(l.name)
	if !ok {
		return false, errors.New(l.name + " is not known")
	}
	return v < l.limit, nil
}

func TestMetric(t *testing.T) {
	lookup := func(name string) (float64, bool) { return map[string]float64{"waiting": 7}[name], name == "waiting" }
	target := check.Target{Traffic: true, Lookup: lookup}
	r := &check.Runner{}
	expect(t, one(t, r, check.Check{Metric: less{"waiting", 8}}, target), check.Passed, "waiting < 8: waiting = 7")
	expect(t, one(t, r, check.Check{Metric: less{"waiting", 5}}, target), check.Failed, "expected waiting < 5, got waiting = 7")
	expect(t, one(t, r, check.Check{Metric: less{"gone", 5}, Timeout: 50 * time.Millisecond}, target), check.NotChecked, "not checked: no source: no samples of gone")
	expect(t, one(t, r, check.Check{Metric: less{"waiting", 5}}, check.Target{Lookup: lookup}), check.NotChecked, "without traffic")
	expect(t, one(t, r, check.Check{Metric: less{"waiting", 5}}, check.Target{Traffic: true}), check.NotChecked, "no source")
}

// A number that the file promises and the app does not expose is red; one that cannot be there yet is not, and is not
// waited for.
func TestMetricSaysWhyItHasNoNumber(t *testing.T) {
	target := check.Target{Traffic: true, Lookup: func(string) (float64, bool) { return 0, false }}
	target.Absent = func(name string) check.Absence {
		return map[string]check.Absence{
			"orders": {Why: "not exposed: orders_total", Red: true},
			"p95":    {Why: "only 12 requests", Final: true},
		}[name]
	}
	start := time.Now()
	expect(t, one(t, &check.Runner{}, check.Check{Metric: less{"p95", 1}}, target), check.NotChecked, "not checked: p95: only 12 requests")
	if took := time.Since(start); took > time.Second {
		t.Errorf("waited %s for what cannot come", took)
	}
	res := one(t, &check.Runner{}, check.Check{Metric: less{"orders", 1}, Timeout: 50 * time.Millisecond}, target)
	expect(t, res, check.Failed, "orders: not exposed: orders_total")
}

// It cannot be computed, which says nothing about the release.
func TestMetricThatCannotBeComputed(t *testing.T) {
	target := check.Target{Traffic: true, Lookup: func(string) (float64, bool) { return 0, true }}
	res := one(t, &check.Runner{}, check.Check{Metric: divides{}}, target)
	expect(t, res, check.NotChecked, "failed / done < 1 cannot be computed: division by zero")
}

// divides is failed / done < 1.
type divides struct{}

func (divides) String() string { return "failed / done < 1" }

func (divides) Eval(lookup func(string) (float64, bool)) (bool, error) {
	if done, _ := lookup("done"); done == 0 {
		return false, errors.New("division by zero")
	}
	return true, nil
}

// The first scrape comes after the first look: the check waits for it.
func TestMetricWaitsForItsFirstSample(t *testing.T) {
	var asked atomic.Int32
	target := check.Target{Traffic: true, Lookup: func(string) (float64, bool) { return 1, asked.Add(1) > 1 }}
	res := one(t, &check.Runner{}, check.Check{Metric: less{"x", 2}}, target)
	expect(t, res, check.Passed)
	if res.Attempts != 2 {
		t.Errorf("%d attempts", res.Attempts)
	}
}

func TestResultsKeepTheOrderAndRunAtOnce(t *testing.T) {
	meet := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/0" {
			select { // only passes when another check runs beside it
			case meet <- struct{}{}:
			case <-r.Context().Done():
			}
		}
		if r.URL.Path == "/3" {
			<-meet
		}
	}))
	defer srv.Close()
	var checks []check.Check
	for i := range 6 {
		checks = append(checks, check.Check{Name: fmt.Sprint(i), HTTP: &check.HTTP{Path: fmt.Sprintf("/%d", i)}})
	}
	checks = append(checks, check.Check{Name: "schema level", NoSource: "no source"}, check.Check{Name: "more"})
	results := (&check.Runner{Parallel: 2}).Run(t.Context(), checks, check.Target{URL: srv.URL})
	for i, res := range results {
		if res.Name != checks[i].Name {
			t.Errorf("result %d is of %s", i, res.Name)
		}
		want := check.Passed
		if i >= 6 {
			want = check.NotChecked
		}
		expect(t, res, want)
	}
	if err := check.Error(results); err != nil {
		t.Errorf("%v", err)
	}
}

func TestErrorNamesEachFailedCheck(t *testing.T) {
	err := check.Error([]check.Result{
		{Name: "a", State: check.Passed}, {Name: "b", State: check.Failed, Message: "no tea"},
		{Name: "c", State: check.NotChecked}, {Name: "d", State: check.Failed, Message: "no milk"},
	})
	if err == nil || err.Error() != "2 checks of 4 failed: b: no tea; d: no milk" || domain.CodeOf(err) != domain.Failed {
		t.Errorf("%v", err)
	}
}

func TestMessagesAreMasked(t *testing.T) {
	const secret = "s3cr3t-value"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, strings.Repeat("y", 194)+secret) // the cut falls into the value
	}))
	defer srv.Close()
	r := &check.Runner{Exec: shell{}, Mask: func(s string) string { return strings.ReplaceAll(s, secret, "[redacted]") }}
	for _, c := range []check.Check{{HTTP: &check.HTTP{Path: "/"}}, {Run: "echo " + secret + "; exit 1"},
		// The beginning is cut off in the middle of the value.
		{Run: "printf " + secret + "; head -c 2043 /dev/zero | tr '\\0' y; exit 1"}} {
		if res := one(t, r, c, check.Target{URL: srv.URL}); strings.Contains(res.Message, "s3cr3t") || strings.Contains(res.Message, " value") || res.State != check.Failed {
			t.Errorf("%+v", res)
		}
	}
}

// A health check of the bad version blocked the fix for ten minutes: whatever checks wait for, a cancelled delivery ends
// them at once, and they say why.
func TestScar_kargo_3258_ARollbackPreemptsChecks(t *testing.T) {
	asked := make(chan struct{}, 3)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(errors.New("rolled back"))
	}()
	start := time.Now()
	results := (&check.Runner{Exec: shell{}, Parallel: 2}).Run(ctx, []check.Check{
		{Name: "hangs", HTTP: &check.HTTP{Path: "/"}, Timeout: time.Hour},
		{Name: "flow", Run: "exec sleep 60"},
		{Name: "not begun", HTTP: &check.HTTP{Path: "/"}, Timeout: time.Hour},
		{Name: "no data", Metric: less{"gone", 1}, Timeout: time.Hour},
	}, check.Target{URL: srv.URL, Traffic: true, Lookup: func(string) (float64, bool) { return 0, false }})
	for _, res := range results {
		expect(t, res, check.Failed, "rolled back")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

// A failing health check printed no more than that it failed.
func TestScar_kamal_1041_AFailureShowsItsBody(t *testing.T) {
	srv := app(t)
	res := one(t, &check.Runner{}, check.Check{HTTP: &check.HTTP{Path: "/broken"}}, check.Target{URL: srv.URL})
	expect(t, res, check.Failed, "expected 200, got 500", "no rows")
}

// A release without traffic failed, or passed, on numbers that nobody had.
func TestScar_flagger_883_NoDataIsNoVerdict(t *testing.T) {
	none := func(string) (float64, bool) { return 0, false }
	for _, target := range []check.Target{{}, {Traffic: true}, {Traffic: true, Lookup: none}} {
		res := one(t, &check.Runner{}, check.Check{Metric: less{"error_rate", 0.01}, Timeout: 30 * time.Millisecond}, target)
		expect(t, res, check.NotChecked, "not checked: ")
	}
}
