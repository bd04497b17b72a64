package scrape

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const exposed = `# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code="200",path="/a b\"c\\"} 1027
http_requests_total{code="500"} 3 1395066363000
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.1"} 5
latency_seconds_bucket{le="+Inf"} 7
latency_seconds_sum 1.5
latency_seconds_count 7
# TYPE rpc summary
rpc{quantile="0.5"} 0.2
rpc_sum 4
rpc_count 20
temperature -3.5e1
belay_process_memory_bytes 1
last_line NaN`

func TestParse(t *testing.T) {
	list, err := parse(strings.NewReader(exposed), nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, s := range list {
		got[fmt.Sprint(s.name, s.labels)] = s.value
	}
	for name, want := range map[string]float64{
		`http_requests_totalmap[code:200 path:/a b"c\]`: 1027,
		`http_requests_totalmap[code:500]`:              3,
		`latency_seconds_bucketmap[le:+Inf]`:            7,
		`latency_seconds_bucketmap[le:0.1]`:             5,
		`latency_seconds_summap[]`:                      1.5,
		`rpcmap[quantile:0.5]`:                          0.2,
		`rpc_countmap[]`:                                20,
		`temperaturemap[]`:                              -35,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v %v, want %v", name, v, ok, want)
		}
	}
	if _, ok := got["last_linemap[]"]; !ok || len(got) != 11 {
		t.Errorf("%d series: %v", len(got), got)
	}
}

func TestParseKeepsWhatIsWanted(t *testing.T) {
	want := map[string]bool{"latency_seconds": true, "rpc_count": true}
	list, err := parse(strings.NewReader(exposed), want, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 5 {
		t.Errorf("kept %v", list)
	}
}

func TestParseLimits(t *testing.T) {
	many := strings.Repeat("a{x=\"y\"} 1\n", 50)
	if _, err := parse(strings.NewReader(many), nil, 50); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	for name, text := range map[string]string{
		"series": many + "b 1\n",
		"line":   "a{x=\"" + strings.Repeat("y", maxLine) + "\"} 1\n",
		"bytes":  strings.Repeat("a{x=\""+strings.Repeat("y", maxLine-100)+"\"} 1\n", 70),
		"body":   strings.Repeat("# nothing\n", maxBody/10+1),
	} {
		most := 50
		if name == "bytes" {
			most = 100
		}
		if _, err := parse(strings.NewReader(text), nil, most); err == nil || !strings.Contains(err.Error(), "above") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hostile are answers that must cost little, fail with a message, and not disturb the neighbour.
var hostile = map[string]http.HandlerFunc{
	"endless line": func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("x", 1<<15))); err != nil {
				return
			}
		}
	},
	"endless comments": func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("# nothing to see\n", 1<<11))); err != nil {
				return
			}
		}
	},
	"million series": func(w http.ResponseWriter, _ *http.Request) {
		b := bufio.NewWriter(w)
		for i := range 1_000_000 {
			if _, err := fmt.Fprintf(b, "m{id=\"%d\"} 1\n", i); err != nil {
				return
			}
		}
		_ = b.Flush()
	},
	"slow drip": func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, "a 1\n"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	},
	"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	"html": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html><body>sign in</body></html>\n")
	},
	"500":          func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "a 1", http.StatusInternalServerError) },
	"redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
	"binary":       func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\x00\xff\xfe{\n\x1f\x8b\n")) },
	"broken value": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a 1\nb one\n") },
	"broken off": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "a 1\n")
	},
	"endless header": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		_, _ = io.WriteString(w, "a 1\n")
	},
}

func TestHostileMetrics(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, exposed) }))
	defer good.Close()
	samples := NewSamples(Limits{})
	s := New(samples, 100*time.Millisecond)
	sources := []Source{{Instance: id("rel_good", 0), URL: good.URL}}
	names := map[string]string{}
	for name, handler := range hostile {
		srv := httptest.NewServer(handler)
		defer srv.Close()
		sources = append(sources, Source{Instance: id("rel_"+name, 0), URL: srv.URL})
		names["rel_"+name] = name
	}
	sources = append(sources, Source{Instance: id("rel_closed", 0), URL: "http://127.0.0.1:1/metrics"})
	s.Set(sources)

	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()

	deadline := time.Now().Add(15 * time.Second)
	for len(s.Status()) < len(sources) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d sources came to an end: %v", len(s.Status()), len(sources), s.Status())
		}
		time.Sleep(20 * time.Millisecond) // the status has no signal; nothing is judged by this time
	}
	for _, st := range s.Status() {
		if st.Instance.Release == "rel_good" {
			if !st.OK || st.Series != 11 {
				t.Errorf("the good neighbour: %+v", st)
			}
			continue
		}
		if st.OK || st.Message == "" || len(st.Message) > 500 {
			t.Errorf("%s was taken, or has no fit message: %+v", names[st.Instance.Release], st)
		}
	}
	// The neighbour was scraped again and again while the slow ones took their two seconds.
	if points := samples.Points("temperature", nil, Last(time.Minute), "rel_good"); len(points) != 1 || len(points[0].Points) < 5 {
		t.Errorf("the good neighbour was held up: %v", points)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the scraper did not stop")
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("hostile metrics left %d MiB behind", grown>>20)
	}
}

func TestSetReplacesSources(t *testing.T) {
	hits := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case hits <- r.URL.Path:
		default:
		}
		_, _ = io.WriteString(w, "a 1\n")
	}))
	defer srv.Close()
	samples := NewSamples(Limits{})
	s := New(samples, 10*time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()

	s.Set([]Source{{Instance: id("rel_a", 0), URL: srv.URL + "/first"}})
	if got := <-hits; got != "/first" {
		t.Fatal(got)
	}
	s.Set([]Source{{Instance: id("rel_a", 0), URL: srv.URL + "/second"}})
	timeout := time.After(5 * time.Second)
	for second := 0; second < 3; {
		select {
		case p := <-hits:
			if p == "/second" {
				second++
			} else if second > 1 {
				t.Fatalf("%s is still scraped", p)
			}
		case <-timeout:
			t.Fatal("the second address is not scraped")
		}
	}
	s.Set(nil)
	if got := s.Status(); len(got) != 0 {
		t.Errorf("status of a source that is gone: %v", got)
	}
	if got := samples.Points("a", nil, Last(time.Minute), "rel_a"); len(got) != 1 {
		t.Errorf("samples of a source that is gone were dropped at once: %v", got)
	}
}

// A shell, a busy child, a child that made a session of its own, and one whose parent is gone: all count, and CPU time
// rises.
func TestProcessTree(t *testing.T) {
	cmd := exec.Command("sh", "-c", "setsid sleep 60 & echo $!; (sleep 60 >&- &); sh -c 'while :; do :; done'; :")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var apart int
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if apart > 1 {
			_ = syscall.Kill(apart, syscall.SIGKILL)
		}
		_ = cmd.Wait()
	}()
	if _, err := fmt.Fscan(out, &apart); err != nil {
		t.Fatal(err)
	}
	var first Usage
	deadline := time.Now().Add(10 * time.Second)
	for {
		table, err := ReadTable("/proc")
		if err != nil {
			t.Fatal(err)
		}
		u, ok := table.Tree(cmd.Process.Pid)
		if !ok {
			t.Fatal("the process is not found")
		}
		if u.Processes == 4 && first.Processes == 0 {
			first = u
		}
		if first.Processes == 4 && u.CPU > first.CPU && u.Memory > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no CPU time seen: %+v, first %+v", u, first)
		}
		time.Sleep(20 * time.Millisecond) // the kernel counts in its own ticks
	}
	table, _ := ReadTable("/proc")
	if _, ok := table.Tree(1 << 30); ok {
		t.Error("a process that does not exist was measured")
	}
}

func TestProcessFiguresAreStored(t *testing.T) {
	samples := NewSamples(Limits{})
	s := New(samples, time.Second)
	s.Set([]Source{{Instance: id("rel_a", 0), PID: os.Getpid()}, {Instance: id("rel_a", 1), PID: 1 << 30}})
	s.processes(time.Now())
	mem := samples.Points(MemoryBytes, nil, Last(time.Minute), "rel_a")
	if len(mem) != 1 || mem[0].Points[0].Value < 1<<20 {
		t.Errorf("memory of this process: %v", mem)
	}
	if cpu := samples.Points(CPUSeconds, nil, Last(time.Minute), "rel_a"); len(cpu) != 1 {
		t.Errorf("cpu of this process: %v", cpu)
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) S) (b c) R 7 8 9 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 1 0 100 1000000 25 18446744073709551615 1\n"
	p, ok := parseStat([]byte(line))
	if !ok || p.parent != 7 || p.group != 8 || p.session != 9 || p.cpu != 2500*time.Millisecond || p.memory != 25*int64(os.Getpagesize()) {
		t.Errorf("%+v %v", p, ok)
	}
	for _, bad := range []string{"", "1", "1 (x)", "1 (x) S a b c d e f g h i j k l m n o p q r s t u"} {
		if _, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(exposed)
	f.Add("a{b=\"c\",} 1 2\n{\"quoted\"} 1\n")
	f.Add("# TYPE a histogram\na_bucket{le=\"x\"} 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parse(strings.NewReader(text), nil, 50)
		if err == nil && len(list) > 50 {
			t.Fatalf("%d series", len(list))
		}
	})
}
