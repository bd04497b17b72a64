package secrets_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
)

func masker(values ...string) *secrets.Masker {
	list := make([]domain.Secret, len(values))
	for i, v := range values {
		list[i] = domain.NewSecret(v)
	}
	return secrets.NewMasker(list...)
}

const awkward = `p@ss/"w'ö<r>d$ &+1`

func TestMaskEncodedForms(t *testing.T) {
	js, err := json.Marshal(awkward)
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(awkward); err != nil {
		t.Fatal(err)
	}
	forms := map[string]string{
		"plain":     awkward,
		"json":      strings.Trim(string(js), `"`),
		"json raw":  strings.Trim(strings.TrimSpace(plain.String()), `"`),
		"query":     url.QueryEscape(awkward),
		"path":      url.PathEscape(awkward),
		"userinfo":  url.User(awkward).String(),
		"hex":       hex.EncodeToString([]byte(awkward)),
		"HEX":       strings.ToUpper(hex.EncodeToString([]byte(awkward))),
		"go %q":     strings.Trim(fmt.Sprintf("%q", awkward), `"`),
		"python":    `p@ss/\"w'\u00f6<r>d$ &+1`,
		"lower pct": "p%40ss%2f%22w%27%c3%b6%3cr%3ed%24%20%26%2b1",
		"shell":     `p@ss/"w'\''ö<r>d$ &+1`,
		"html":      "p@ss/&#34;w&#39;ö&lt;r&gt;d$ &amp;+1",
		"py html":   "p@ss/&quot;w&#x27;ö&lt;r&gt;d$ &amp;+1",
		"py quote":  "p%40ss/%22w%27%C3%B6%3Cr%3Ed%24%20%26%2B1",
		"py ascii":  `p@ss/"w'\xf6<r>d$ &+1`,
	}
	m := masker(awkward)
	for name, form := range forms {
		if got, want := m.String("a["+form+"]b"), "a["+secrets.Mask+"]b"; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// The forms of real tools, not of this package: what a shell and od print must be found.
func TestMaskWhatToolsPrint(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash on this machine")
	}
	value := `it's $5 "cheap" & \new`
	m := masker(value)
	for _, script := range []string{
		`printf '%s' "$V"`, `printf '%q' "$V"`, `set -x; : "$V"`, `declare -p V`, `printf '%s' "${V@Q}"`,
		`printf '%s' "$V" | base64 -w0`, `printf 'user:%s' "$V" | base64 -w0`, `printf 'ab%sxyz' "$V" | base64 -w0`,
		`printf '%s' "$V" | od -An -v -tx1 | tr -d ' \n'`,
	} {
		cmd := exec.Command(bash, "-c", script)
		cmd.Env = append(os.Environ(), "V="+value)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		got := m.String(string(out))
		if !strings.Contains(got, secrets.Mask) || strings.Contains(got, "cheap") {
			t.Errorf("%s: printed %q, masked %q", script, out, got)
		}
	}
}

func TestMaskBase64InsideLongerText(t *testing.T) {
	const value = "s3cr3t-value-0123"
	m := masker(value)
	for before := range 7 {
		for after := range 4 {
			text := strings.Repeat("~", before) + value + strings.Repeat("?", after)
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				encoded := enc.EncodeToString([]byte(text))
				got := m.String(encoded)
				i := strings.Index(got, secrets.Mask)
				if i < 0 {
					t.Fatalf("%d before, %d after: %q not masked", before, after, encoded)
				}
				// What is left must not decode to any whole byte of the value.
				left := len(got) - len(secrets.Mask)
				if most := (before*8+5)/6 + (after*8+5)/6 + 4; left > most {
					t.Errorf("%d before, %d after: %q leaves %d characters, at most %d", before, after, got, left, most)
				}
			}
		}
	}
}

func TestMaskLinesOfAValue(t *testing.T) {
	key := "-----BEGIN KEY-----\nQUJDREVGR0g=\r\nabc\n  SUpLTE1OT1A\n-----END KEY-----\n"
	m := masker(key)
	if got := m.String("x\n" + key + "y"); got != "x\n"+secrets.Mask+"y" {
		t.Errorf("whole value: %q", got)
	}
	for _, line := range []string{"QUJDREVGR0g=", "SUpLTE1OT1A"} {
		if got := m.String("log: " + line + " end"); got != "log: "+secrets.Mask+" end" {
			t.Errorf("line %q: %q", line, got)
		}
	}
	if got := m.String("abc"); got != "abc" {
		t.Errorf("a line below %d bytes was masked: %q", secrets.MinMasked, got)
	}
}

// A program that cannot log in prints the parts of the address that it was given.
func TestMaskPasswordsWithinAValue(t *testing.T) {
	for value, text := range map[string]string{
		"postgres://app:p%40ssw0rd-77@db/shop":                                "host=db user=app password=[p@ssw0rd-77] (p%40ssw0rd-77)",
		"host=db password='p@ssw0rd-77' user=app":                             "p@ssw0rd-77",
		`{"type":"x","private_key":"-----BEGIN\nMIIEp@ssw0rd\n","id":"shop"}`: "MIIEp@ssw0rd of shop",
	} {
		if got := masker(value).String(text); strings.Contains(got, "ssw0rd") || !strings.Contains(got, secrets.Mask) {
			t.Errorf("%s: %s", value, got)
		}
	}
	if got := masker("postgres://postgres:postgres@db/shop").String("postgres starts"); got != "postgres starts" {
		t.Errorf("a placeholder took a word away: %s", got)
	}
}

func TestFinder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringN(8, 40, -1).Filter(func(s string) bool { return len(strings.TrimSpace(s)) == len(s) && len(s) >= 8 }).Draw(t, "value")
		text := rapid.StringN(0, 40, -1).Draw(t, "before") + base64.StdEncoding.EncodeToString([]byte("ab"+value)) + value + "after"
		f := masker(value).Finder()
		for len(text) > 0 {
			n := rapid.IntRange(1, len(text)).Draw(t, "chunk")
			if _, err := f.Write([]byte(text[:n])); err != nil {
				t.Fatal(err)
			}
			text = text[n:]
		}
		if !f.Found() {
			t.Fatalf("%q is not found", value)
		}
	})
	f := masker("another-value").Finder()
	if _, _ = f.Write([]byte("nothing of it, another-valu3")); f.Found() {
		t.Error("found what is not there")
	}
}

func TestMaskLeavesShortValues(t *testing.T) {
	m := masker("no", "123", "")
	if got := m.String("no 123 bm8="); got != "no 123 bm8=" {
		t.Errorf("%q", got)
	}
	if got := (*secrets.Masker)(nil).String("text"); got != "text" {
		t.Errorf("nil masker: %q", got)
	}
}

func TestMaskOverlapsWhole(t *testing.T) {
	m := masker("abcdef", "defghi", "cdef")
	for in, want := range map[string]string{
		"xabcdefghix":   "x" + secrets.Mask + "x",
		"abcdefabcdef":  secrets.Mask,
		"abcdefg":       secrets.Mask + "g",
		"abcabcdef":     "abc" + secrets.Mask,
		"abcdeabcdefgh": "abcde" + secrets.Mask + "gh",
	} {
		if got := m.String(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// However a stream is cut, the same comes out, no value is in it, and what is no value is all there.
func TestMaskAnyChunking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few letters, so that values overlap with themselves, each other and the text.
		letters := rapid.OneOf(rapid.StringMatching(`[ab]{3,6}`), rapid.StringMatching(`[ab\n ]{1,9}`))
		values := rapid.SliceOfN(letters, 1, 4).Draw(t, "values")
		var text strings.Builder
		for range rapid.IntRange(0, 12).Draw(t, "parts") {
			if rapid.Bool().Draw(t, "secret") {
				text.WriteString(rapid.SampledFrom(values).Draw(t, "value"))
			} else {
				text.WriteString(rapid.StringMatching(`[abc#\n ]{0,6}`).Draw(t, "noise"))
			}
		}
		m := masker(values...)
		in := text.String()
		want := naive(values, in)
		if got := m.String(in); got != want {
			t.Fatalf("values %q, text %q: %q, want %q", values, in, got, want)
		}
		var out bytes.Buffer
		w := m.Writer(&out)
		for rest := in; rest != ""; {
			n := rapid.IntRange(0, len(rest)).Draw(t, "chunk")
			if _, err := w.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			if out.Len() > len(want) {
				t.Fatalf("wrote %q too early", out.String())
			}
			rest = rest[n:]
			if n == 0 {
				if _, err := w.Write([]byte(rest[:1])); err != nil {
					t.Fatal(err)
				}
				rest = rest[1:]
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Fatalf("values %q, text %q in chunks: %q, want %q", values, in, out.String(), want)
		}
	})
}

// naive covers every occurrence of every value and line. The alphabet of the property has no encoded form of its own.
func naive(values []string, text string) string {
	cover := make([]bool, len(text))
	for _, v := range values {
		if len(v) < secrets.MinMasked {
			continue
		}
		list := []string{v, strings.TrimSpace(v), strings.ReplaceAll(v, " ", "+")}
		for _, l := range strings.Split(v, "\n") {
			list = append(list, strings.TrimSpace(l))
		}
		for _, p := range list {
			for i := 0; len(p) >= secrets.MinMasked && i+len(p) <= len(text); i++ {
				if text[i:i+len(p)] == p {
					for k := i; k < i+len(p); k++ {
						cover[k] = true
					}
				}
			}
		}
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !cover[i]:
			b.WriteByte(text[i])
		case i == 0 || !cover[i-1]:
			b.WriteString(secrets.Mask)
		}
	}
	return b.String()
}

// A value inside the beginning of another one, which then does not come, and two values with other text between them.
func TestMaskInsideAnUnfinishedValue(t *testing.T) {
	m := masker("xabcdy", "abcd")
	for in, want := range map[string]string{
		"xabcdz":         "x" + secrets.Mask + "z",
		"xabcd":          "x" + secrets.Mask,
		"abcd###abcd#":   secrets.Mask + "###" + secrets.Mask + "#",
		"xabcdyabcdabcx": secrets.Mask + "abcx",
	} {
		if got := m.String(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMaskHoldsBackNoMoreThanNeeded(t *testing.T) {
	var out bytes.Buffer
	w := masker("secret-value").Writer(&out)
	for _, step := range []struct{ in, out string }{
		{"line one\n", "line one\n"},
		{"se", "line one\n"},
		{"t\n", "line one\nset\n"},
		{"xsecret-val", "line one\nset\nx"},
		{"ue\n", "line one\nset\nx" + secrets.Mask + "\n"},
	} {
		if _, err := io.WriteString(w, step.in); err != nil {
			t.Fatal(err)
		}
		if out.String() != step.out {
			t.Fatalf("after %q: %q, want %q", step.in, out.String(), step.out)
		}
	}
}

type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestMaskIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out locked
		w := masker(">> secret").Writer(&out)
		_, _ = io.WriteString(w, "name >> ")
		if out.String() != "name " {
			t.Fatalf("held too little or too much: %q", out.String())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if out.String() != "name >> " {
			t.Fatalf("a prompt stayed hidden: %q", out.String())
		}
		_, _ = io.WriteString(w, "secret") // it was the beginning of a value after all
		_, _ = io.WriteString(w, "\n>> secre")
		time.Sleep(time.Second)
		synctest.Wait()
		if want := "name >> " + secrets.Mask + "\n"; out.String() != want {
			t.Fatalf("most of a value was let go: %q, want %q", out.String(), want)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if want := "name >> " + secrets.Mask + "\n>> secre"; out.String() != want {
			t.Fatalf("after close: %q, want %q", out.String(), want)
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Fatal("a closed writer took a write")
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestMaskWriterReportsErrors(t *testing.T) {
	w := masker("secret").Writer(failing{})
	if _, err := w.Write([]byte("hello\n")); err == nil {
		t.Fatal("the error was lost")
	}
	if err := w.Close(); err == nil {
		t.Fatal("close lost the error")
	}
}

func BenchmarkMask(b *testing.B) {
	values := []string{"postgres://app:Tr0ub4dor&3@db.internal:5432/shop?sslmode=require", "sk_live_51H8xkZ2eZvKYlo2C", strings.Repeat("MIIEvQIBADANBgkqhkiG9w0BAQEF\n", 40)}
	m := masker(values...)
	line := []byte(`{"level":"info","ts":"2026-11-23T11:58:00Z","msg":"GET /v1/items 200 in 14ms","request":"01J9ZK2Q8C","user":4211}` + "\n")
	chunk := bytes.Repeat(line, 300)
	w := m.Writer(io.Discard)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		_, _ = w.Write(chunk)
	}
}

// The longest value that is taken, awkward in every form, must not cost much.
func TestMaskerOfALongValueIsSmall(t *testing.T) {
	var value strings.Builder
	for i := 0; value.Len() < secrets.MaxValue-100; i++ {
		fmt.Fprintf(&value, "%x'\"$ \\<&>ö/%d;", i*2654435761, i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := masker(value.String())
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 64<<20 {
		t.Errorf("the masker takes %d MiB", got>>20)
	} else {
		t.Logf("the masker takes %d MiB", got>>20)
	}
	if got := m.String("a" + value.String() + "b"); got != "a"+secrets.Mask+"b" {
		t.Errorf("not masked: %.80q", got)
	}
}
