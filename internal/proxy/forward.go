package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
)

// forwarding are the headers by which a proxy says who asked. They are believed from trusted peers only.
var forwarding = [...]string{
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix",
	"X-Forwarded-Server", "X-Forwarded-Ssl", "X-Real-Ip", "X-Request-Id",
}

// forward sets the forwarding headers of the outgoing request, after the hop-by-hop headers are gone: a client cannot
// name one of them in Connection to have it dropped.
func forward(pr *httputil.ProxyRequest, secure, trusted bool) {
	in, out := pr.In, pr.Out.Header
	client := peer(in)
	for _, name := range forwarding {
		out.Del(name)
	}
	dropUnderscored(out)
	proto := "http"
	if secure {
		proto = "https"
	}
	host, chain, real, id := in.Host, client, client, ""
	element := "for=" + quoteNode(client) + ";host=\"" + in.Host + "\";proto=" + proto
	if trusted {
		if prior := strings.Join(in.Header["X-Forwarded-For"], ", "); prior != "" {
			chain = prior + ", " + client
		}
		if prior := strings.Join(in.Header["Forwarded"], ", "); prior != "" {
			element = prior + ", " + element
		}
		proto = first(in.Header.Get("X-Forwarded-Proto"), proto)
		host = first(in.Header.Get("X-Forwarded-Host"), host)
		real = first(in.Header.Get("X-Real-Ip"), client)
		id = in.Header.Get("X-Request-Id")
	}
	out.Set("X-Forwarded-For", chain)
	out.Set("X-Forwarded-Host", host)
	out.Set("X-Forwarded-Proto", proto)
	out.Set("Forwarded", element)
	out.Set("X-Real-Ip", real)
	if id == "" {
		id = newID(12)
	}
	out.Set("X-Request-Id", id)
}

// dropUnderscored drops spellings such as X_Forwarded_For, which many servers cannot tell from the real ones.
func dropUnderscored(h http.Header) {
	for name := range h {
		if !strings.Contains(name, "_") {
			continue
		}
		plain := strings.ReplaceAll(name, "_", "-")
		for _, f := range forwarding {
			if strings.EqualFold(plain, f) {
				delete(h, name)
			}
		}
	}
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func quoteNode(ip string) string {
	if strings.Contains(ip, ":") {
		return "\"[" + ip + "]\""
	}
	return ip
}

func newID(bytes int) string {
	raw := make([]byte, bytes)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// trusts reports whether the peer of r is in one of the networks.
func trusts(networks []netip.Prefix, r *http.Request) bool {
	if len(networks) == 0 {
		return false
	}
	addr, err := netip.ParseAddr(peer(r))
	if err != nil {
		return false
	}
	for _, n := range networks {
		if n.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}
