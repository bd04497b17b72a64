package proxy

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"

	"github.com/belay-cd/belay/internal/domain"
)

// A visitor's cookie holds their draw, so that the weight can grow without anybody going back. It is one block of AES: the
// draw, and zeros. Nobody can read from it on which side its visitor is, whether they are in the placebo, or whose draw is
// near, and so nobody can choose among cookies before they are used. The zeros are its mark: what was made up, changed or
// sealed under the key of another rollout opens to zeros once in 2⁹⁶ times, and its visitor is drawn anew.
const (
	drawBytes  = 4
	cookieText = (aes.BlockSize*8 + 5) / 6 // characters
)

// cookieCoding has one text for each block: the bits that the last character has left over are zero.
var cookieCoding = base64.RawURLEncoding.Strict()

// newSeal makes the cipher of a rollout's cookies from its salt. It is made once: to lay out an AES key takes longer than to
// use it.
func newSeal(salt [32]byte) cipher.Block {
	key := sha256.Sum256(append([]byte("cookie of a visitor:"), salt[:]...))
	seal, _ := aes.NewCipher(key[:]) // fails for keys of other lengths only
	return seal
}

func sealDraw(seal cipher.Block, u uint32) string {
	var raw [aes.BlockSize]byte
	binary.BigEndian.PutUint32(raw[:], u)
	seal.Encrypt(raw[:], raw[:])
	return cookieCoding.EncodeToString(raw[:])
}

func openDraw(seal cipher.Block, value string) (uint32, bool) {
	var raw [aes.BlockSize]byte
	if len(value) != cookieText {
		return 0, false
	}
	if n, err := cookieCoding.Decode(raw[:], []byte(value)); err != nil || n != len(raw) {
		return 0, false
	}
	seal.Decrypt(raw[:], raw[:])
	if [aes.BlockSize - drawBytes]byte(raw[drawBytes:]) != [aes.BlockSize - drawBytes]byte{} {
		return 0, false
	}
	return binary.BigEndian.Uint32(raw[:]), true
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
		if u, ok := openDraw(t.seal, c.Value); ok {
			return ticket{draw: u}
		}
	}
	u := t.draws.draw()
	return ticket{draw: u, fresh: true, cookie: sealDraw(t.seal, u)}
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
