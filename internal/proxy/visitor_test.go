package proxy

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const textOfCookies = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// readable is a cookie as it was once: the draw in clear and eight bytes of an HMAC.
func readable(salt [32]byte, u uint32) string {
	raw := binary.BigEndian.AppendUint32(nil, u)
	h := hmac.New(sha256.New, salt[:])
	h.Write(raw)
	return base64.RawURLEncoding.EncodeToString(append(raw, h.Sum(nil)[:8]...))
}

func rawOf(t *testing.T, cookie string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil || len(raw) != aes.BlockSize {
		t.Fatalf("%s: %d bytes, %v", cookie, len(raw), err)
	}
	return raw
}

func TestCookieIsOnlyGoodForItsRollout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint32().Draw(t, "draw")
		salt := [32]byte{1}
		mine, other := newSeal(salt), newSeal([32]byte{2})
		c := sealDraw(mine, u)
		if got, ok := openDraw(mine, c); !ok || got != u {
			t.Fatalf("%s opens to %d, %t", c, got, ok)
		}
		if _, ok := openDraw(other, c); ok {
			t.Fatal("opens for another rollout")
		}
		if _, ok := openDraw(mine, readable(salt, u)); ok {
			t.Fatal("a readable cookie opens")
		}
		if _, ok := openDraw(mine, rapid.String().Draw(t, "made up")); ok {
			t.Fatal("a made-up cookie opens")
		}
	})
}

// A cookie that is changed in any bit or character, cut or lengthened is no cookie.
func TestChangedCookieIsRefused(t *testing.T) {
	seal := newSeal([32]byte{3})
	for _, u := range []uint32{0, 1, 1 << 31, math.MaxUint32} {
		c := sealDraw(seal, u)
		refused := func(how, value string) {
			if got, ok := openDraw(seal, value); ok && value != c {
				t.Errorf("draw %d, %s: %q opens to %d", u, how, value, got)
			}
		}
		for bit := range aes.BlockSize * 8 {
			raw := rawOf(t, c)
			raw[bit/8] ^= 1 << (bit % 8)
			refused("a bit", base64.RawURLEncoding.EncodeToString(raw))
		}
		for i := range c {
			for _, other := range textOfCookies + "\n\r= +/\x00" {
				refused("a character", c[:i]+string(other)+c[i+1:])
			}
			refused("cut", c[:i])
			refused("cut and filled", c[:i]+strings.Repeat("A", len(c)-i))
			refused("lengthened", c[:i]+"\n"+c[i:])
		}
		refused("twice", c+c)
		refused("padded", c+"==")
	}
}

// Cookies of neighbouring draws differ like random ones, and no bit of a cookie goes with any bit of its draw.
func TestCookieTellsNothingOfItsDraw(t *testing.T) {
	const draws, width = 4096, aes.BlockSize * 8
	seal := newSeal([32]byte{4}) // the same in every run
	apart, low, high := 0, width, 0
	together := new([width][32]int) // by bit of the cookie and of the draw
	for i := range uint32(draws) {
		u := i<<20 | i // neighbours at both ends
		raw := rawOf(t, sealDraw(seal, u))
		far := 0
		for at, x := range rawOf(t, sealDraw(seal, u+1)) {
			far += bits.OnesCount8(raw[at] ^ x)
		}
		apart, low, high = apart+far, min(low, far), max(high, far)
		for bit := range width {
			for of := range 32 {
				together[bit][of] += int(raw[bit/8]>>(bit%8)^byte(u>>of)) & 1
			}
		}
	}
	if mean := float64(apart) / draws; math.Abs(mean-width/2) > 1 || low < 30 || high > 98 {
		t.Errorf("neighbours differ in %.1f of %d bits, %d to %d", mean, width, low, high)
	}
	worst := 0.0
	for bit := range together {
		for of, n := range together[bit] {
			off := math.Abs(float64(n)-draws/2) / math.Sqrt(draws/4)
			if worst = max(worst, off); off > 5.5 {
				t.Errorf("bit %d of the cookie and bit %d of the draw: %d of %d differ", bit, of, n, draws)
			}
		}
	}
	t.Logf("of %d pairs of bits the farthest is %.2f standard deviations off", width*32, worst)
}

// Whoever comes with a cookie that is none is drawn in the same answer, like somebody without, and keeps what they get.
func TestCookieThatIsNoneIsReplacedInTheSameAnswer(t *testing.T) {
	t.Parallel()
	b := newBooth(t, 5_000)
	rt := b.ctl.plane.table.Load().routes[b.route.Key()]
	good := sealDraw(rt.seal, 17)
	bad := []string{
		"", "x", strings.Repeat("A", cookieText), good[:cookieText-1], good + "A", readable(rt.salt, 17),
		sealDraw(newSeal([32]byte{5}), 17), strings.Repeat("A", 4_000), "B" + good[1:], "C" + good[1:],
	}
	for _, value := range bad {
		if value == good {
			continue
		}
		kept := b.visit("/", "Cookie", rt.cookie+"="+value)
		if name, _, _ := strings.Cut(kept, "="); name != rt.cookie {
			t.Errorf("%q: answered with %q", value, kept)
			continue
		}
		if again := b.visit("/", "Cookie", kept); again != "" {
			t.Errorf("%q: got %s, and then %s", value, kept, again)
		}
	}
	if again := b.visit("/", "Cookie", rt.cookie+"="+bad[1], "Cookie", rt.cookie+"="+good); again != "" {
		t.Errorf("a good cookie after one that is none: got %s", again)
	}
	b.weigh(6_000)
	if b.ctl.plane.table.Load().routes[b.route.Key()].seal != rt.seal {
		t.Error("the cipher was made anew for a change of the weight")
	}
	b.route.Rollout = "rol_2"
	b.put()
	if again := b.visit("/", "Cookie", rt.cookie+"="+good); again == "" {
		t.Error("a cookie of the last rollout stays")
	}
}

// There is one text for each draw: what opens is what was sealed.
func FuzzOpenDraw(f *testing.F) {
	salt := [32]byte{6}
	seal := newSeal(salt)
	for _, u := range []uint32{0, 1, math.MaxUint32} {
		f.Add(sealDraw(seal, u))
		f.Add(sealDraw(newSeal([32]byte{7}), u))
		f.Add(readable(salt, u))
	}
	f.Add("")
	f.Add(strings.Repeat("\n", cookieText))
	f.Fuzz(func(t *testing.T, value string) {
		if u, ok := openDraw(seal, value); ok && sealDraw(seal, u) != value {
			t.Errorf("%q opens to %d", value, u)
		}
	})
}
