package proxy

import (
	"net"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// normalise brings a route to its one form and refuses what cannot be one.
func normalise(r *domain.Route) error {
	bad := func(format string, args ...any) error {
		return domain.Errorf(domain.Invalid, "route "+r.Key()+": "+format, args...)
	}
	switch {
	case r.App == "" || r.Role == "" || !r.Environment.Valid():
		return bad("app, environment and role are needed")
	case len(r.Hosts) == 0:
		return bad("no host")
	case r.Weight < 0 || r.Weight > domain.WeightAll:
		return bad("weight %d is not between 0 and %d", r.Weight, domain.WeightAll)
	case r.Stable == nil && r.Next == nil:
		return bad("neither stable nor next")
	case r.Next == nil && r.Weight > 0:
		return bad("weight %d without a next", r.Weight)
	case r.Next != nil && r.Stable != nil && r.Next.Release == r.Stable.Release:
		return bad("stable and next are the same release %s", r.Next.Release)
	case r.Sticky != nil && (r.Sticky.Cookie == "") == (r.Sticky.Header == ""):
		return bad("sticky needs either a cookie or a header")
	}
	r.Hosts = slices.Clone(r.Hosts)
	for i, h := range r.Hosts {
		if r.Hosts[i] = hostName(h); r.Hosts[i] == "" || strings.ContainsAny(h, "/* ") {
			return bad("host %q", h)
		}
	}
	if len(r.Paths) == 0 {
		r.Paths = []string{"/"}
	}
	for _, p := range r.Paths {
		if !strings.HasPrefix(p, "/") {
			return bad("path %q does not begin with /", p)
		}
	}
	if r.Split == "" {
		r.Split = "visitor"
	}
	if r.Split != "visitor" && r.Split != splitRequest {
		return bad("split %q is neither visitor nor request", r.Split)
	}
	for name, s := range r.Segments {
		if (s.Cookie == "") == (s.Header == "") {
			return bad("segment %s needs either a cookie or a header", name)
		}
	}
	for _, b := range []*domain.Backend{r.Stable, r.Next} {
		if err := checkBackend(b); err != nil {
			return bad("%w", err)
		}
	}
	return nil
}

func checkBackend(b *domain.Backend) error {
	if b == nil {
		return nil
	}
	if b.Release == "" {
		return domain.Errorf(domain.Invalid, "a backend without release")
	}
	for _, i := range b.Instances {
		if _, _, err := net.SplitHostPort(i.Addr); err != nil {
			return domain.Errorf(domain.Invalid, "address %q of %s: %w", i.Addr, b.Release, err)
		}
	}
	if b.Probe != "" && !strings.HasPrefix(b.Probe, "/") {
		return domain.Errorf(domain.Invalid, "probe %q of %s does not begin with /", b.Probe, b.Release)
	}
	return nil
}
