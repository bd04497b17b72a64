package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const oneHundred = "HTTP/1.1 100 Continue\r\n\r\n"

// scripted is an instance that answers each connection by f, which finds the head of the request read.
func scripted(t *testing.T, f func(w io.Writer, req *http.Request)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				if req, err := http.ReadRequest(in); err == nil {
					f(conn, req)
					_, _ = io.Copy(io.Discard, in) // it leaves the connection open
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// upload asks with Expect, sends its body at the first 100, and returns the status lines that came.
func upload(t *testing.T, addr string) (lines []string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	for in := bufio.NewReader(conn); ; {
		head, err := in.ReadString('\n')
		for line := ""; err == nil && line != "\r\n"; {
			line, err = in.ReadString('\n')
		}
		if err != nil {
			t.Fatalf("after %q: %v", lines, err)
		}
		head = strings.TrimSpace(strings.TrimPrefix(head, "HTTP/1.1 "))
		if lines = append(lines, head[:3]); head[0] != '1' {
			return lines
		}
		if strings.Count(strings.Join(lines, " "), "100") == 1 && head[:3] == "100" {
			_, _ = io.WriteString(conn, "abc")
		}
	}
}

// The proxy asks for the body itself when the instance does not: in whatever order that happens, a client sees one 100.
func TestClientIsAskedForItsBodyOnce(t *testing.T) {
	answer := func(w io.Writer, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
	for name, c := range map[string]struct {
		times int
		f     func(w io.Writer, req *http.Request)
		want  string
	}{
		"asked at once": {30, func(w io.Writer, req *http.Request) {
			_, _ = io.WriteString(w, oneHundred)
			answer(w, req)
		}, "100 200"},
		"asked twice": {10, func(w io.Writer, req *http.Request) {
			_, _ = io.WriteString(w, oneHundred+oneHundred)
			answer(w, req)
		}, "100 200"},
		"asked when the body is there": {1, func(w io.Writer, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(w, oneHundred)
			answer(w, req)
		}, "100 200"},
		"never asked": {1, answer, "100 200"},
		"asked after a hint": {10, func(w io.Writer, req *http.Request) {
			_, _ = io.WriteString(w, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+oneHundred)
			answer(w, req)
		}, "103 100 200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t)
			p.put(routeTo(backendOn("aaaaaaa", scripted(t, c.f)), nil, 0))
			for range c.times {
				start := time.Now()
				got := strings.Join(upload(t, p.addr), " ")
				if got != c.want && (got != strings.TrimPrefix(c.want, "103 ") || time.Since(start) < askAfter) {
					t.Fatalf("client saw %s, want %s", got, c.want)
				}
			}
		})
	}
}

// An instance that refuses and keeps its connection open does not get the body either: the client is not asked for it.
func TestEarlyRefusalStopsTheUpload(t *testing.T) {
	p := startProxy(t)
	p.put(routeTo(backendOn("aaaaaaa", scripted(t, func(w io.Writer, _ *http.Request) {
		_, _ = io.WriteString(w, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
	})), nil, 0))
	for range 30 {
		start := time.Now()
		if got := strings.Join(upload(t, p.addr), " "); got != "413" && time.Since(start) < askAfter {
			t.Fatalf("client saw %s", got)
		}
	}
}
