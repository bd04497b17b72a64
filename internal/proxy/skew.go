package proxy

import (
	"context"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// skewWithin is how long the other release may take to answer for a file: the 404 is at hand meanwhile.
const skewWithin = 2 * time.Second

// skew asks the other release, once, for a static file that the one of the draw does not have: a page of one release that
// asks for its own script while the other one answers. Whatever goes wrong there, the first answer stands. Next is asked only
// while it has traffic, stable as long as it is in the route.
func (x *exchange) skew(out *http.Request, res *http.Response) *http.Response {
	now := x.plane.table.Load().routes[x.route.key]
	other := x.skewed(now)
	if other == nil {
		return res
	}
	other.begin()
	under := sync.OnceFunc(func() { other.starting.Add(-1) })
	defer under()
	inst := other.pick(nil)
	inst.open.Add(1)
	var found *http.Response
	if x.plane.table.Load().routes[x.route.key] == now && !inst.left.Load() { // as for a request that was drawn for it
		found = x.look(out, inst, Attempt{
			Begin: func() bool {
				return other.depart(func() bool { return x.plane.table.Load().routes[x.route.key] == now })
			},
			Written: func() {
				other.departing.Add(-1)
				under()
			},
		})
	}
	if found == nil {
		inst.open.Add(-1)
		other.end()
		return res
	}
	_ = res.Body.Close() // the 404 is not wanted
	x.home.saved.Add(1)
	x.settle()
	x.on.end()
	x.inst.open.Add(-1)
	x.on, x.inst = other, inst
	x.on.first.Store(time.Now().UnixNano())
	return found
}

// skewed is the release to ask for what the release of the draw did not find, nil where there is nothing to ask for.
func (x *exchange) skewed(now *route) *backend {
	method := x.in.Method
	if now == nil || x.meter == nil || x.on.release != x.home.release || method != http.MethodGet && method != http.MethodHead ||
		x.body != nil || isUpgrade(x.in.Header) || !isStatic(x.in.URL.Path) {
		return nil
	}
	other := now.stable
	if x.home.id == idOf(now.stable) {
		if !now.takes(domain.Next) {
			return nil
		}
		other = now.next
	}
	if other == nil || other.id == x.home.id || !other.alive() {
		return nil
	}
	return other
}

// look sends the request to one instance of the other release, and answers nil unless the file is there.
func (x *exchange) look(out *http.Request, inst *instance, a Attempt) *http.Response {
	ctx, cancel := context.WithCancel(x.in.Context())
	late := time.AfterFunc(skewWithin, cancel)
	res, _, err := x.plane.Upstream.Send(x.attempt(out.WithContext(ctx), inst), a)
	if err != nil {
		cancel()
		return nil
	}
	if !late.Stop() || !isFile(res) {
		_ = res.Body.Close() // its answer is not wanted
		cancel()
		return nil
	}
	context.AfterFunc(x.in.Context(), cancel)
	return res
}

// isFile reports whether an answer is the file, and not the start page that some apps answer to every path.
func isFile(res *http.Response) bool {
	if res.StatusCode == http.StatusNotModified {
		return true
	}
	page := strings.HasPrefix(strings.ToLower(res.Header.Get("Content-Type")), "text/html")
	return res.StatusCode >= http.StatusOK && res.StatusCode < http.StatusMultipleChoices && !page
}

// isStatic reports whether the path looks like a file that a build made, by its extension: an API has none, or another.
func isStatic(p string) bool {
	switch strings.ToLower(path.Ext(p)) {
	case ".js", ".mjs", ".cjs", ".css", ".map", ".wasm", ".json", ".webmanifest", ".txt",
		".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".avif", ".ico",
		".woff", ".woff2", ".ttf", ".otf", ".eot", ".mp3", ".mp4", ".webm":
		return true
	}
	return false
}
