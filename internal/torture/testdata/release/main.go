// Command release is the app of the scripted releases: a small server whose behaviour stands in the file "mode" of its
// commit, as words: do=errors rate=0.3 only=production after=4s. Every other word is a detail of what it does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

type mode map[string]string

func readMode() mode {
	m := mode{}
	data, _ := os.ReadFile("mode") // no file is no mode
	for word := range strings.FieldsSeq(string(data)) {
		name, value, _ := strings.Cut(word, "=")
		m[name] = value
	}
	if only := m["only"]; only != "" && only != os.Getenv("BELAY_ENV") {
		return mode{"name": m["name"], "do": "good"}
	}
	return m
}

func (m mode) number(key string) float64 {
	n, _ := strconv.ParseFloat(m[key], 64)
	return n
}

// due reports whether the behaviour has begun.
func (m mode) due() bool {
	after, _ := time.ParseDuration(m["after"])
	return time.Since(born) >= after
}

var born = time.Now()

func main() {
	m := readMode()
	part := ""
	if len(os.Args) > 1 {
		part = os.Args[1]
	}
	var err error
	switch part {
	case "check": // the one test of the app
		if m["name"] == "" {
			err = errors.New("the mode has no name")
		}
	case "work":
		err = work(m)
	case "single":
		err = single()
	default:
		err = serve(m)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// begin does what goes wrong outside of requests. It returns where to listen, "" when this process is not the one.
func begin(m mode) string {
	addr := "127.0.0.1:" + os.Getenv("PORT")
	switch m["do"] {
	case "crash":
		fmt.Println("it cannot start")
		os.Exit(1)
	case "port":
		return "127.0.0.1:0"
	case "fork":
		if os.Getenv("FORKED") == "" {
			daemonise()
			return ""
		}
	case "die":
		after, _ := time.ParseDuration(m["after"])
		time.AfterFunc(after, func() { fmt.Println("it dies"); os.Exit(3) })
	case "eat":
		go eat(m)
	case "flood":
		go flood(int(m.number("mb")))
	}
	return addr
}

// daemonise leaves a child behind that holds the port, as services of old do.
func daemonise() {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), "FORKED=1")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		fmt.Println("fork:", err)
		os.Exit(1)
	}
	fmt.Println("forked", child.Process.Pid)
	time.Sleep(300 * time.Millisecond)
}

var eaten [][]byte

// eat takes memory until somebody ends it.
func eat(m mode) {
	for !m.due() {
		time.Sleep(50 * time.Millisecond)
	}
	for range 4000 {
		block := make([]byte, 4<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		eaten = append(eaten, block)
		time.Sleep(20 * time.Millisecond)
	}
}

// flood writes so many MB of log as fast as it can.
func flood(mb int) {
	line := []byte(strings.Repeat("flood ", 170) + "\n")
	for range mb << 20 / len(line) {
		if _, err := os.Stdout.Write(line); err != nil {
			return // a full disk
		}
	}
}

type server struct {
	mode  mode
	asked atomic.Int64
	never chan struct{}
}

func serve(m mode) error {
	addr := begin(m)
	if addr == "" {
		return nil
	}
	s := &server{mode: m, never: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthy)
	mux.HandleFunc("/", s.answer)
	mux.HandleFunc("GET /slow", s.slow)
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /ws", s.socket)
	web := &http.Server{Addr: addr, Handler: s.moody(mux)}
	term, closed := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(term, syscall.SIGTERM)
	_, stubborn := m["ignoreterm"]
	go func() {
		for range term {
			fmt.Println("asked to end")
			if !stubborn {
				break
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		web.Shutdown(ctx)
		close(closed)
	}()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-closed
	return nil
}

func (s *server) healthy(w http.ResponseWriter, _ *http.Request) {
	if s.mode["do"] == "unready" {
		http.Error(w, "not yet", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ok")
}

// moody hangs, fails or is slow as the mode wants. Rates are exact: every n-th request, so that a short run decides; with
// dice they are chances.
func (s *server) moody(next http.Handler) http.Handler {
	every, rate := 0, s.mode.number("rate")
	if rate > 0 {
		every = int(1/rate + 0.5)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		do := s.mode["do"]
		if do == "hang" && s.mode.due() {
			<-s.never
		}
		if s.unlucky(r) {
			w.Header().Set("X-Planted", "base")
			http.Error(w, "as ever", http.StatusInternalServerError)
			return
		}
		if !s.meant(r) || !s.mode.due() {
			next.ServeHTTP(w, r)
			return
		}
		hit := every > 0 && (s.asked.Add(1)-1)%int64(every) == 0
		if s.mode["dice"] != "" {
			hit = rand.Float64() < rate
		}
		switch {
		case do == "errors" && hit:
			w.Header().Set("X-Planted", "error")
			http.Error(w, "planted", http.StatusInternalServerError)
			return
		case do == "slow" && hit:
			time.Sleep(time.Duration(s.mode.number("ms")) * time.Millisecond)
		}
		next.ServeHTTP(w, r)
	})
}

// unlucky says that a visitor's request fails as requests of each release do: now and then (base), and more often during
// an incident, the first so many of every ten seconds by the clock, which all instances share.
func (s *server) unlucky(r *http.Request) bool {
	if r.URL.Path == "/healthz" || r.Header.Get("X-Visitor") == "" {
		return false
	}
	chance := s.mode.number("base")
	if float64(time.Now().Unix()%10) < s.mode.number("incident") {
		chance = 0.3
	}
	return chance > 0 && rand.Float64() < chance
}

// meant reports whether the behaviour is about this request: of a visitor, of one path, of one segment.
func (s *server) meant(r *http.Request) bool {
	m := s.mode
	switch {
	case r.URL.Path == "/healthz":
		return false
	case m["path"] != "":
		return r.URL.Path == m["path"]
	case m["plan"] != "":
		return r.Header.Get("X-Plan") == m["plan"]
	case m["country"] != "":
		c, err := r.Cookie("country")
		return err == nil && c.Value == m["country"]
	case m["checks"] != "": // also what Belay itself asks
		return true
	}
	return r.Header.Get("X-Visitor") != ""
}

// answer takes its usual ten milliseconds, or about as many as wait says, and sends a body back.
func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	usual := 10.
	if wait := s.mode.number("wait"); wait > 0 {
		usual = wait * (0.6 + 0.4*rand.ExpFloat64())
	}
	time.Sleep(time.Duration(usual * float64(time.Millisecond)))
	if len(body) > 0 {
		w.Write(body)
		return
	}
	fmt.Fprintln(w, "name", s.mode["name"], r.URL.Path)
}

func (s *server) slow(w http.ResponseWriter, r *http.Request) {
	ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
	time.Sleep(time.Duration(ms) * time.Millisecond)
	io.WriteString(w, "slow\n")
}

// events sends n events, whole ones, then ends.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range n {
		fmt.Fprintf(w, "id: %d\ndata: tick\n\n", i)
		w.(http.Flusher).Flush()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

// socket sends back whatever comes, until the other side has enough.
func (s *server) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for {
		kind, data, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if conn.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}
