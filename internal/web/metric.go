package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what the server counts of itself, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	readers  prometheus.Gauge
	dropped  prometheus.Counter
	lag      prometheus.Gauge
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "belay_api_requests_total", Help: "Requests of the API by operation and status.",
		}, []string{"operation", "status"}),
		readers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "belay_event_readers", Help: "Open event streams."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "belay_event_readers_dropped_total", Help: "Event streams that were cut because their reader stood still.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "belay_event_lag_seconds", Help: "Age of the event that was sent last, at the time it was sent.",
		}),
	}
	m.registry.MustRegister(m.requests, m.readers, m.dropped, m.lag, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), deliveryCollector{s.service})
	m.registry.MustRegister(s.options.Collectors...)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// count counts each request once it has been answered.
func (m *metrics) count(ctx huma.Context, next func(huma.Context)) {
	defer func() {
		status := "stream"
		if code := ctx.Status(); code != 0 {
			status = strconv.Itoa(code)
		}
		m.requests.WithLabelValues(ctx.Operation().OperationID, status).Inc()
	}()
	next(ctx)
}

// countedDeliveries is how many deliveries of an app are counted by state: the newest.
const countedDeliveries = 100

// deliveryCollector asks the service at each scrape, so that nothing counted can disagree with what is stored.
type deliveryCollector struct{ service Service }

func (deliveryCollector) describe() *prometheus.Desc {
	return prometheus.NewDesc("belay_deliveries", "The newest 100 deliveries of each app by state.", []string{"app", "state"}, nil)
}

// Describe names the metric.
func (c deliveryCollector) Describe(out chan<- *prometheus.Desc) { out <- c.describe() }

// Collect counts the deliveries.
func (c deliveryCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	apps, err := c.service.Apps(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(c.describe(), err)
		return
	}
	for _, app := range apps {
		list, err := c.service.Deliveries(ctx, app, countedDeliveries)
		if err != nil {
			out <- prometheus.NewInvalidMetric(c.describe(), err)
			continue
		}
		states := map[string]int{}
		for i := range list {
			states[string(list[i].State)]++
		}
		for state, n := range states {
			out <- prometheus.MustNewConstMetric(c.describe(), prometheus.GaugeValue, float64(n), app, state)
		}
	}
}
