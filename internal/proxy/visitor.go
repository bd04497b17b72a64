package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/http"

	"github.com/belay-cd/belay/internal/domain"
)

// A visitor's cookie holds their draw, so that the weight can grow without anybody going back, and a mark that only this
// rollout's key makes: a cookie of another rollout, or a made-up one, is drawn anew.
const (
	drawBytes = 4
	markBytes = 8
)

func sealDraw(key [32]byte, u uint32) string {
	var raw [drawBytes + markBytes]byte
	binary.BigEndian.PutUint32(raw[:], u)
	copy(raw[drawBytes:], mark(key, raw[:drawBytes]))
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func openDraw(key [32]byte, value string) (uint32, bool) {
	var raw [drawBytes + markBytes]byte
	if base64.RawURLEncoding.DecodedLen(len(value)) != len(raw) {
		return 0, false
	}
	if _, err := base64.RawURLEncoding.Decode(raw[:], []byte(value)); err != nil {
		return 0, false
	}
	if subtle.ConstantTimeCompare(raw[drawBytes:], mark(key, raw[:drawBytes])) != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(raw[:]), true
}

func mark(key [32]byte, draw []byte) []byte {
	h := hmac.New(sha256.New, key[:])
	h.Write(draw)
	return h.Sum(nil)[:markBytes]
}

// hashDraw turns an app's own id of a visitor into their draw.
func hashDraw(key [32]byte, id string) uint32 {
	in := make([]byte, 0, 128)
	in = append(append(in, key[:]...), id...)
	sum := sha256.Sum256(in)
	return binary.BigEndian.Uint32(sum[:])
}

// cookieName is the name of Belay's cookie on a route: apps that share a host by path do not share it.
func cookieName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "belay_" + base64.RawURLEncoding.EncodeToString(sum[:6])
}

// ticket is the draw that a request goes by.
type ticket struct {
	draw    uint32
	drawn   bool   // there is a draw: neither side has all the traffic
	fresh   bool   // it was made for this request
	own     bool   // it is of the app's own id
	placebo bool   // it lies in the placebo's part of stable
	cookie  string // to set, "" for none
}

// splits reports whether chance decides between two releases.
func (t *route) splits() bool {
	return t.stable != nil && t.next != nil && t.Weight > 0 && t.Weight < domain.WeightAll
}

// choose says whose a request is, and by which draw.
func (t *route) choose(r *http.Request) (domain.Side, ticket) {
	if !t.splits() {
		if t.next == nil || t.Weight == 0 {
			return domain.Stable, ticket{}
		}
		return domain.Next, ticket{}
	}
	k := t.drawFor(r)
	k.drawn = true
	if drawnNext(k.draw, t.Weight) {
		return domain.Next, k
	}
	k.placebo = drawnPlacebo(k.draw, t.Weight)
	return domain.Stable, k
}

func (t *route) drawFor(r *http.Request) ticket {
	if t.Split == splitRequest {
		return ticket{draw: t.draws.draw(), fresh: true}
	}
	if id := stickyID(t.Sticky, r); id != "" {
		return ticket{draw: hashDraw(t.salt, id), own: true}
	}
	for _, c := range r.CookiesNamed(t.cookie) {
		if u, ok := openDraw(t.salt, c.Value); ok {
			return ticket{draw: u}
		}
	}
	u := t.draws.draw()
	return ticket{draw: u, fresh: true, cookie: sealDraw(t.salt, u)}
}

func stickyID(s *domain.Sticky, r *http.Request) string {
	switch {
	case s == nil:
		return ""
	case s.Header != "":
		return r.Header.Get(s.Header)
	default:
		if c, err := r.Cookie(s.Cookie); err == nil {
			return c.Value
		}
		return ""
	}
}
