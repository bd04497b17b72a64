package proxy

import (
	"crypto/cipher"
	"net"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

const splitRequest = "request"

// table is what every request looks at. It is never changed: a change swaps the pointer to it.
type table struct {
	routes map[string]*route   // by key
	hosts  map[string][]*place // by host, the longest prefix first
}

// place is one prefix of one host.
type place struct {
	prefix string
	route  *route
}

// route is one row of the table, ready for requests.
type route struct {
	domain.Route
	key          string
	salt         [32]byte
	seal         cipher.Block // of the salt, for Belay's cookie
	cookie       string
	draws        *drawer
	seen         *seen
	stable, next *backend
	labels       *labels
	stableMeter  *meter
	nextMeter    *meter
}

// newTable builds a table of the routes.
func newTable(routes map[string]*route) *table {
	t := &table{routes: routes, hosts: map[string][]*place{}}
	for _, r := range routes {
		for _, h := range r.Hosts {
			for _, p := range r.Paths {
				t.hosts[h] = append(t.hosts[h], &place{prefix: p, route: r})
			}
		}
	}
	for _, places := range t.hosts {
		slices.SortFunc(places, func(a, b *place) int { return len(b.prefix) - len(a.prefix) })
	}
	return t
}

// find returns the route of a host and path, nil when nobody owns it.
func (t *table) find(host, path string) *route {
	for _, p := range t.hosts[hostName(host)] {
		if under(p.prefix, path) {
			return p.route
		}
	}
	return nil
}

// under reports whether the path lies under the prefix, by whole segments: /api holds /api and /api/x, not /apix.
func under(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}

// hostName is the host without port, in lower case and without the final dot.
func hostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// backendOf returns the side's backend, nil when it has none.
func (t *route) backendOf(side domain.Side) *backend {
	if side == domain.Next {
		return t.next
	}
	return t.stable
}

// takes reports whether the route gives the side any traffic of users.
func (t *route) takes(side domain.Side) bool {
	if side == domain.Next {
		return t.next != nil && t.Weight > 0
	}
	return t.stable != nil && (t.Weight < domain.WeightAll || t.next == nil)
}
