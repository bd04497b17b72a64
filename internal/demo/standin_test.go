package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// standInMain plays belay's part for the harness around it: `serve`, `-C DIR ship` and `-C DIR status`, just enough to move
// traffic from one real shop to the next. STAND_IN_FAULT=drop ends the old shop before the
// traffic has moved.
func standInMain(args []string) int {
	if args[0] == "serve" {
		return standInServe(args)
	}
	dir, verb := args[1], args[2]
	if verb == "status" {
		fmt.Println("shop: fine")
		return 0
	}
	socket := strings.TrimPrefix(os.Getenv("BELAY_SERVER"), "unix://")
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	answer, err := client.Post("http://belay/ship?dir="+url.QueryEscape(dir), "", nil)
	if err != nil {
		fmt.Println(err)
		return 3
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	fmt.Print(string(text))
	code, _ := strconv.Atoi(answer.Header.Get("Exit"))
	return code
}

type shop struct {
	commit  string
	proxy   *httputil.ReverseProxy
	process *exec.Cmd
}

type standIn struct {
	mu       sync.Mutex
	current  *shop
	served   int // by current
	failures int
	data     string
}

func standInServe(args []string) int {
	at := map[string]string{}
	for i, arg := range args {
		if strings.HasPrefix(arg, "--") && i+1 < len(args) {
			at[arg] = args[i+1]
		}
	}
	s := &standIn{data: at["--data"]}
	if err := os.MkdirAll(filepath.Join(s.data, "run"), 0o755); err != nil {
		panic(err)
	}
	control, err := net.Listen("unix", filepath.Join(s.data, "run", "belay.sock"))
	if err != nil {
		panic(err)
	}
	go http.Serve(control, http.HandlerFunc(s.ship))
	go func() { panic(http.ListenAndServe(at["--http"], s)) }()
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	<-terminated
	return 0 // the shops go on, as Belay's do
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	to := s.current
	s.served++
	s.mu.Unlock()
	to.proxy.ServeHTTP(w, r)
}

func (s *standIn) ship(w http.ResponseWriter, r *http.Request) {
	dir := r.URL.Query().Get("dir")
	next, err := s.start(dir)
	if err != nil {
		w.Header().Set("Exit", "1")
		fmt.Fprintln(w, err)
		return
	}
	fault := os.Getenv("STAND_IN_FAULT")
	before := s.current
	if fault == "drop" && before != nil {
		before.process.Process.Kill()
		time.Sleep(100 * time.Millisecond)
	}
	s.mu.Lock()
	s.current, s.served, s.failures = next, 0, 0
	s.mu.Unlock()
	for begin := time.Now(); time.Since(begin) < 3*time.Second; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		unused := s.served == 0 && time.Since(begin) > 300*time.Millisecond // the first delivery
		if unused || s.served >= 120 && s.failures == 0 {
			s.mu.Unlock()
			break
		}
		if s.served >= 120 {
			s.current = before
			s.mu.Unlock()
			w.Header().Set("Exit", "11")
			fmt.Fprintln(w, "rolled back")
			return
		}
		s.mu.Unlock()
	}
	fmt.Fprintln(w, "done")
}

func (s *standIn) start(dir string) (*shop, error) {
	commit, err := exec.Command("git", "-C", dir, "rev-parse", "--short=7", "HEAD").Output()
	if err != nil {
		return nil, err
	}
	next := &shop{commit: strings.TrimSpace(string(commit))}
	binary := filepath.Join(s.data, next.commit)
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(ports[0])
	if err != nil {
		return nil, err
	}
	next.process = exec.Command(binary)
	next.process.Env = []string{"PORT=" + port}
	if err := next.process.Start(); err != nil {
		return nil, err
	}
	go next.process.Wait()
	for range 500 {
		if conn, err := net.Dial("tcp", ports[0]); err == nil {
			conn.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	next.proxy = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: ports[0]})
	next.proxy.ModifyResponse = func(r *http.Response) error {
		r.Header.Set("X-Belay-Release", next.commit)
		if r.StatusCode >= 500 {
			s.mu.Lock()
			s.failures++
			s.mu.Unlock()
		}
		return nil
	}
	return next, nil
}
