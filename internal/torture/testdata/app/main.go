// Command app is what the torture tests deliver: a small server that can also behave badly. How it behaves stands in the
// file "mode" of its commit, so that two commits differ in one small file.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type mode map[string]string

func readMode() mode {
	m := mode{}
	data, _ := os.ReadFile("mode") // no file is no mode
	for word := range strings.FieldsSeq(string(data)) {
		name, value, _ := strings.Cut(word, "=")
		m[name] = value
	}
	return m
}

func main() {
	m := readMode()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "check": // the one test of the app
			if m["name"] == "" {
				fmt.Println("the mode has no name")
				os.Exit(1)
			}
			if _, ok := m["attack"]; ok {
				attack("test")
			}
		case "attack":
			attack(os.Args[2])
		}
		return
	}
	if _, ok := m["attack"]; ok {
		go attack("instance")
	}
	if err := serve(m); err != nil {
		fmt.Println("serve:", err)
		os.Exit(1)
	}
}

type app struct {
	mode   mode
	fail   float64
	hung   atomic.Bool
	broken atomic.Bool
	never  chan struct{}
}

func serve(m mode) error {
	a := &app{mode: m, never: make(chan struct{})}
	a.fail, _ = strconv.ParseFloat(m["fail"], 64)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "name", m["name"]) })
	mux.HandleFunc("GET /slow", a.slow)
	mux.HandleFunc("GET /events", a.events)
	mux.HandleFunc("POST /echo", a.echo)
	mux.HandleFunc("GET /hang", func(http.ResponseWriter, *http.Request) { a.hung.Store(true) })
	mux.HandleFunc("GET /break", func(http.ResponseWriter, *http.Request) { a.broken.Store(true) })
	mux.HandleFunc("GET /flood", func(http.ResponseWriter, *http.Request) { go flood() })
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: a.moody(mux)}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	_, stubborn := m["ignoreterm"]
	closed := make(chan struct{})
	go func() {
		for range term {
			fmt.Println("asked to end")
			if !stubborn {
				break
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		server.Shutdown(ctx)
		close(closed)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-closed
	return nil
}

// moody hangs or fails as the mode wants; the probe never fails by itself.
func (a *app) moody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.hung.Load() {
			<-a.never
		}
		if r.URL.Path != "/healthz" && (a.broken.Load() || rand.Float64() < a.fail) {
			http.Error(w, "planted", http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *app) slow(w http.ResponseWriter, r *http.Request) {
	ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
	time.Sleep(time.Duration(ms) * time.Millisecond)
	io.WriteString(w, strings.Repeat("slow\n", 500))
}

// echo writes down each id before it answers: one that stands there twice was run twice.
func (a *app) echo(w http.ResponseWriter, r *http.Request) {
	fmt.Println("post", r.URL.Query().Get("id"))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Write(body)
}

// events sends n events, whole ones, then ends.
func (a *app) events(w http.ResponseWriter, r *http.Request) {
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

// flood writes 200 MB of log as fast as it can.
func flood() {
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	line := strings.Repeat("flood ", 20) + "\n"
	for range 200 << 20 / len(line) {
		if _, err := out.WriteString(line); err != nil {
			return // a full disk
		}
	}
	out.Flush()
}
