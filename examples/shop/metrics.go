package main

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

// Metrics counts what the shop did since it opened.
type Metrics struct {
	Requests, Errors, Orders, JobsDone atomic.Int64
}

// Count counts the requests that next answers, and those that failed.
func (m *Metrics) Count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		watched := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(watched, r)
		m.Requests.Add(1)
		if watched.status >= http.StatusInternalServerError {
			m.Errors.Add(1)
		}
	})
}

// Write writes the counters in Prometheus' text format.
func (m *Metrics) Write(w io.Writer) {
	for _, counter := range []struct {
		name, help string
		value      *atomic.Int64
	}{
		{"shop_requests_total", "Requests answered.", &m.Requests},
		{"shop_errors_total", "Requests answered with 5xx.", &m.Errors},
		{"shop_orders_total", "Items ordered.", &m.Orders},
		{"shop_jobs_done_total", "Rounds of restocking done.", &m.JobsDone},
	} {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s counter\n%s %d\n",
			counter.name, counter.help, counter.name, counter.name, counter.value.Load())
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
