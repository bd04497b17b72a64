package torture

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// planted is a secret that only this test knows. What is looked for are its cores, which no encoding of text changes: so
// the test needs no knowledge of how values are masked.
type planted struct {
	number int // what reports call it
	value  string
	cores  []string
}

// coreLength is long enough that half of a core is no accident.
const coreLength = 24

// shapes make values around cores.
var shapes = []func(core func() string) string{
	func(core func() string) string { return core() },
	func(core func() string) string { return `it's "` + core() + `" \ $HOME` },
	func(core func() string) string { return "100% of %s %2F <" + core() + "> & more = less" },
	func(core func() string) string { return "größe " + core() + " 秘密 ✓" },
	func(core func() string) string { return "+/" + core() + "+a/b==" },
	func(core func() string) string {
		return "postgres://shop:" + core() + "@db.example:5432/shop?sslmode=require"
	},
	func(core func() string) string {
		return "-----BEGIN KEY-----\n" + core() + core() + "\n" + core() + "\n-----END KEY-----"
	},
	func(core func() string) string {
		return `{"type":"service","private_key":"` + core() + `","client_secret":"a b ` + core() + `"}`
	},
	func(core func() string) string { return "host=db password=" + core() + " user=shop" },
	func(core func() string) string { return "first " + core() + "\nsecond	line " + core() + "!" },
}

// garden makes and remembers planted values.
type garden struct{ all []planted }

// plant makes a value of a shape; -1 takes the next one.
func (g *garden) plant(shape int) string {
	p := planted{number: len(g.all) + 1}
	if shape < 0 {
		shape = p.number
	}
	p.value = shapes[shape%len(shapes)](func() string {
		p.cores = append(p.cores, (rand.Text() + strings.ToLower(rand.Text()))[14:14+coreLength])
		return p.cores[len(p.cores)-1]
	})
	g.all = append(g.all, p)
	return p.value
}

// needle is a part of a planted value in some form.
type needle struct {
	text   string
	number int
	form   string
}

// finder looks for many needles at once, by their first eight bytes.
type finder map[uint64][]needle

// finder looks for both halves of every core, plain, in hexadecimal digits, and in base64 at its alignments. Halves, as
// a text that was cut before it was masked has no more.
func (g *garden) finder() finder {
	f := finder{}
	add := func(n needle) {
		key := binary.LittleEndian.Uint64([]byte(n.text))
		f[key] = append(f[key], n)
	}
	for _, p := range g.all {
		for _, core := range p.cores {
			for _, half := range []string{core[:coreLength/2], core[coreLength/2:]} {
				add(needle{half, p.number, "plain"})
				x := hex.EncodeToString([]byte(half))
				add(needle{x, p.number, "hex"})
				add(needle{strings.ToUpper(x), p.number, "HEX"})
				for shift := range 3 {
					text := base64.StdEncoding.EncodeToString([]byte("\x00\x00"[:shift] + half))
					add(needle{text[(shift*8+5)/6 : (shift+len(half))*8/6], p.number, "base64"})
				}
			}
		}
	}
	return f
}

// in lists what is found in data as "number form", each once.
func (f finder) in(data []byte) []string {
	var found []string
	for i := 0; i+8 <= len(data); i++ {
		for _, n := range f[binary.LittleEndian.Uint64(data[i:])] {
			if bytes.HasPrefix(data[i:], []byte(n.text)) {
				if s := fmt.Sprintf("%d %s", n.number, n.form); !slices.Contains(found, s) {
					found = append(found, s)
				}
			}
		}
	}
	return found
}

// numbers lists the values that stand in data in any form.
func (f finder) numbers(data []byte) map[int]bool {
	seen := map[int]bool{}
	for _, s := range f.in(data) {
		var n int
		_, _ = fmt.Sscan(s, &n) // it begins with a number
		seen[n] = true
	}
	return seen
}

// leaks collects where values were found. It never holds a value. It is safe for concurrent use.
type leaks struct {
	finder finder
	mu     sync.Mutex
	found  map[string][]string
	looked int
}

// look searches data, which came from a place.
func (l *leaks) look(place string, data []byte) {
	found := l.finder.in(data)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked++
	for _, s := range found {
		if !slices.Contains(l.found[place], s) {
			l.found[place] = append(l.found[place], s)
		}
	}
}
