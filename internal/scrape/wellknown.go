package scrape

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// poolNames are the metrics in which one library tells of its database connections. Each list holds the names that are in
// use for the same number; an app may put a prefix of its own before them.
type poolNames struct {
	library string
	used    []string // gauge: connections in use
	max     []string // gauge: most that there may be; 0 is no limit
	waiting []string // gauge: who waits for one
	waited  []string // counter: seconds waited; its rate is how many wait on average
	errors  []string // counter: connections that were not had
	// state is the value of the label state, or of one that ends in _state, under which used counts.
	state string
}

var knownPools = []poolNames{
	{library: "Go, collectors.NewDBStatsCollector", used: []string{"go_sql_in_use_connections"}, max: []string{"go_sql_max_open_connections"},
		waited: []string{"go_sql_wait_duration_seconds_total"}},
	{library: "Go, sqlstats", used: []string{"go_sql_stats_connections_in_use"}, max: []string{"go_sql_stats_connections_max_open"},
		waited: []string{"go_sql_stats_connections_blocked_seconds"}},
	{library: "Go, pgxpool", used: []string{"pgxpool_acquired_conns"}, max: []string{"pgxpool_max_conns"}},
	{library: "Java, HikariCP", used: []string{"hikaricp_connections_active", "hikaricp_active_connections"},
		max:     []string{"hikaricp_connections_max", "hikaricp_max_connections"},
		waiting: []string{"hikaricp_connections_pending", "hikaricp_pending_threads"}, errors: []string{"hikaricp_connections_timeout_total"}},
	{library: "Java, Spring DataSource", used: []string{"jdbc_connections_active"}, max: []string{"jdbc_connections_max"}},
	{library: "OpenTelemetry", used: []string{"db_client_connections_usage", "db_client_connection_count"}, state: "used",
		max:     []string{"db_client_connections_max", "db_client_connection_max"},
		waiting: []string{"db_client_connections_pending_requests", "db_client_connection_pending_requests"},
		errors:  []string{"db_client_connections_timeouts_total", "db_client_connection_timeouts_total"}},
	{library: "Ruby, ActiveRecord", used: []string{"active_record_connection_pool_busy"}, max: []string{"active_record_connection_pool_size"},
		waiting: []string{"active_record_connection_pool_waiting"}},
	// Its size is no limit: it may overflow. An app that adds both up exposes the sum as max.
	{library: "Python, SQLAlchemy", used: []string{"sqlalchemy_pool_checked_out"}, max: []string{"sqlalchemy_pool_max"},
		waiting: []string{"sqlalchemy_pool_waiting"}},
	{library: "Python, django-prometheus", errors: []string{"django_db_new_connection_errors_total"}},
	{library: "Node.js, Prisma", used: []string{"prisma_pool_connections_busy"}, waiting: []string{"prisma_client_queries_wait"}},
	{library: "PgBouncer's exporter", used: []string{"pgbouncer_pools_server_active_connections"},
		waiting: []string{"pgbouncer_pools_client_waiting_connections"}},
	{library: "any", used: []string{"db_pool_in_use", "db_pool_used", "db_pool_active", "db_pool_busy"}, max: []string{"db_pool_max", "db_pool_size"},
		waiting: []string{"db_pool_waiting", "db_pool_pending"}, waited: []string{"db_pool_wait_seconds_total"}, errors: []string{"db_pool_errors_total"}},
}

// Pool is the database connections of one instance as it exposes them.
type Pool struct {
	Instance domain.InstanceID
	Name     string // metric's beginning, and labels
	Used     float64
	Max      float64 // 0: not exposed, or no limit
	// Waiting is who waits for a connection: at the last two scrapes, so that a moment is no verdict, or on average.
	Waiting float64
	Errors  float64 // connections that were not had within the window
	// Judged says that Max, Waiting or Errors is exposed at all.
	Judged bool
}

// Pools returns the pools of a release that are exposed under well-known names, in the order of instance and name.
func (s *Samples) Pools(w Window, release string) []Pool {
	found := map[poolKey]*Pool{}
	ceilings := map[poolKey][]float64{} // by instance and beginning, without labels
	for _, name := range s.Names(release) {
		for _, known := range knownPools {
			for field, list := range known.fields() {
				begin, ok := beginning(name, list)
				if !ok {
					continue
				}
				for _, series := range s.Points(name, nil, w, release) {
					if known.state != "" && field == "used" && stateOf(series.Labels) != known.state {
						continue
					}
					k := poolKey{series.Instance, begin + known.library, labelText(series.Labels)}
					if found[k] == nil {
						found[k] = &Pool{Instance: series.Instance, Name: begin + known.title() + k.labels}
					}
					found[k].take(field, series.Points)
					if field == "max" {
						k.labels = ""
						ceilings[k] = append(ceilings[k], series.Points[len(series.Points)-1].Value)
					}
				}
			}
		}
	}
	for k, p := range found {
		k.labels = ""
		if only := ceilings[k]; p.Max == 0 && len(only) == 1 {
			p.Max, p.Judged = only[0], true
		}
	}
	pools := make([]Pool, 0, len(found))
	for _, p := range found {
		pools = append(pools, *p)
	}
	slices.SortFunc(pools, func(a, b Pool) int {
		return cmp.Or(compareIDs(a.Instance, b.Instance), strings.Compare(a.Name, b.Name))
	})
	return pools
}

type poolKey struct {
	instance domain.InstanceID
	family   string
	labels   string
}

func (n poolNames) fields() map[string][]string {
	return map[string][]string{"used": n.used, "max": n.max, "waiting": n.waiting, "waited": n.waited, "errors": n.errors}
}

// title is the name under which a pool of the library is told.
func (n poolNames) title() string {
	for _, list := range [][]string{n.used, n.waiting, n.errors} {
		if len(list) > 0 {
			return list[0]
		}
	}
	return n.library
}

func (p *Pool) take(field string, points []Point) {
	last := points[len(points)-1].Value
	both := last
	if len(points) > 1 {
		both = min(both, points[len(points)-2].Value)
	}
	switch field {
	case "used":
		p.Used += both
		return
	case "max":
		p.Max += last
	case "waiting":
		p.Waiting += both
	case "waited":
		if rate, ok := Rate(points); ok {
			p.Waiting += rate
		}
	case "errors":
		if n, ok := Increase(points); ok {
			p.Errors += n
		}
	}
	p.Judged = true
}

// cacheNames are two counters, or one with a label that says which.
type cacheNames struct{ hits, misses string }

var knownCaches = []cacheNames{
	{"cache_hits_total", "cache_misses_total"},
	{"cache_hit_total", "cache_miss_total"},
	{"cache_get_hits_total", "cache_get_misses_total"}, // django-prometheus
	{"keyspace_hits_total", "keyspace_misses_total"},   // redis
	{"cache_gets_total", ""},                           // Micrometer: result is hit or miss
	{"cache_requests_total", ""},
}

// Cache is how often a cache was asked within a window, over all instances of a release.
type Cache struct {
	Name         string
	Hits, Misses float64
}

// Rate is the share of hits; 0 of a cache that nobody asked.
func (c Cache) Rate() float64 {
	if c.Hits+c.Misses == 0 {
		return 0
	}
	return c.Hits / (c.Hits + c.Misses)
}

// Caches returns the caches of a release that are exposed under well-known names, by name.
func (s *Samples) Caches(w Window, release string) []Cache {
	found := map[string]*Cache{}
	for _, name := range s.Names(release) {
		for _, known := range knownCaches {
			begin, hits := beginning(name, []string{known.hits})
			misses := false
			if !hits && known.misses != "" {
				begin, misses = beginning(name, []string{known.misses})
			}
			if !hits && !misses {
				continue
			}
			title := begin + known.hits
			for _, series := range s.Points(name, nil, w, release) {
				n, ok := Increase(series.Points)
				if !ok {
					continue
				}
				if found[title] == nil {
					found[title] = &Cache{Name: title}
				}
				switch {
				case misses, known.misses == "" && resultOf(series.Labels) == "miss":
					found[title].Misses += n
				case known.misses != "", resultOf(series.Labels) == "hit":
					found[title].Hits += n
				}
			}
		}
	}
	list := make([]Cache, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		list = append(list, *found[name])
	}
	return list
}

// WellKnown is which kinds of metrics a release was ever seen to expose.
type WellKnown struct{ Any, Pools, Caches bool }

// WellKnown says what was scraped of a release, whenever that was.
func (s *Samples) WellKnown(release string) WellKnown {
	var k WellKnown
	for _, name := range s.Names(release) {
		if strings.HasPrefix(name, reserved) {
			continue
		}
		k.Any = true
		for _, known := range knownPools {
			for _, list := range known.fields() {
				_, ok := beginning(name, list)
				k.Pools = k.Pools || ok
			}
		}
		for _, known := range knownCaches {
			_, ok := beginning(name, []string{known.hits, cmp.Or(known.misses, known.hits)})
			k.Caches = k.Caches || ok
		}
	}
	return k
}

// beginning returns what stands before one of the names; false when it is none of them.
func beginning(name string, list []string) (string, bool) {
	for _, known := range list {
		if begin, ok := strings.CutSuffix(name, known); ok && (begin == "" || strings.HasSuffix(begin, "_")) {
			return begin, true
		}
	}
	return "", false
}

func stateOf(labels map[string]string) string {
	for name, value := range labels {
		if name == "state" || strings.HasSuffix(name, "_state") {
			return value
		}
	}
	return ""
}

// resultOf reads what became of a look-up: hit or miss, however the label is called.
func resultOf(labels map[string]string) string {
	for _, name := range [...]string{"result", "status", "outcome"} {
		if v := labels[name]; v != "" {
			return strings.ToLower(v)
		}
	}
	return ""
}

// labelText is what tells the pools of an instance apart.
func labelText(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name != "state" && !strings.HasSuffix(name, "_state") {
			parts = append(parts, name+`="`+labels[name]+`"`)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "{" + strings.Join(parts, ",") + "}"
}
