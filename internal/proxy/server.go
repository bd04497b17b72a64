package proxy

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

func newServer(h http.Handler, quiet *log.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headWithin, IdleTimeout: keptFor, MaxHeaderBytes: headBytes, ErrorLog: quiet,
	}
}

// strictListener hands out connections whose requests are checked for what servers read in two ways.
type strictListener struct{ net.Listener }

// Accept waits for the next connection.
func (l *strictListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newStrictConn(c), nil
}

// serveTLS shakes hands itself, so that HTTP/1 below TLS is checked as strictly as without: only HTTP/2 goes to the
// server as it is.
func (w *worker) serveTLS(server *http.Server, ln net.Listener) {
	config := w.plane.Certs.config()
	ready := &queue{conns: make(chan net.Conn), closed: make(chan struct{}), addr: ln.Addr()}
	go func() { _ = server.Serve(ready) }() // ends when the worker leaves
	defer func() { _ = ready.Close() }()
	for {
		raw, err := ln.Accept()
		if err != nil {
			if w.leaving.Load() {
				return
			}
			time.Sleep(5 * time.Millisecond) // no file handle left: the next may find one
			continue
		}
		go func() {
			conn := tls.Server(raw, config)
			ctx, cancel := context.WithTimeout(context.Background(), headWithin)
			defer cancel()
			if conn.HandshakeContext(ctx) != nil {
				_ = conn.Close()
				return
			}
			if conn.ConnectionState().NegotiatedProtocol == "h2" {
				ready.put(conn)
			} else {
				ready.put(newStrictConn(conn))
			}
		}()
	}
}

// queue is a listener of connections that are ready.
type queue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.closed:
		_ = c.Close()
	}
}

// Accept waits for the next connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// Addr is where the connections came in.
func (q *queue) Addr() net.Addr { return q.addr }
