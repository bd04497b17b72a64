package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// MinMasked is the length in bytes below which a value, or a line of one, is not masked: "no" or "5" stand in every log.
const MinMasked = 4

// forms lists every way in which value is looked for: itself, each of its lines, and each of these encoded. Base64 is
// looked for at its three alignments, so that a value is found inside a longer text that was encoded as a whole; up to
// four bits at either end of it may then remain. Not found: base64 that was wrapped into lines, other encodings,
// compressed and encrypted text.
func forms(value string) []string {
	if len(value) < MinMasked {
		return nil
	}
	seen := map[string]bool{}
	var list []string
	add := func(texts ...string) {
		for _, t := range texts {
			if len(t) >= MinMasked && !seen[t] {
				seen[t] = true
				list = append(list, t)
			}
		}
	}
	for _, plain := range append(parts(value), inner(value)...) {
		add(plain)
		add(base64Forms(plain)...)
		add(escapedForms(plain)...)
		x := hex.EncodeToString([]byte(plain))
		add(x, strings.ToUpper(x))
	}
	return list
}

// minInner is the length in bytes from which a password within a value is masked by itself: a shorter one is a word.
const minInner = 8

// inner returns the passwords within a value: programs take an address apart and print its parts.
func inner(value string) []string {
	found := []string{password(value)}
	if u, err := url.Parse(strings.TrimSpace(value)); err == nil && u.User != nil {
		_, raw, _ := strings.Cut(u.User.String(), ":")
		found = append(found, raw)
	}
	for _, word := range strings.Fields(value) { // host=db password=… user=app
		if name, text, ok := strings.Cut(word, "="); ok && strings.EqualFold(name, "password") {
			found = append(found, strings.Trim(text, `'"`))
		}
	}
	var doc map[string]any
	if strings.HasPrefix(strings.TrimSpace(value), "{") && json.Unmarshal([]byte(value), &doc) == nil {
		for name, v := range doc {
			if text, ok := v.(string); ok && innerName.MatchString(name) {
				found = append(found, parts(text)...)
			}
		}
	}
	return slices.DeleteFunc(found, func(s string) bool { return s == value || len(s) < minInner || Placeholder(domain.NewSecret(s)) })
}

// innerName is how the secret fields of a document are called.
var innerName = regexp.MustCompile(`(?i)key|secret|token|password|credential`)

// parts returns the value and, where it has several, its lines without the spaces around them.
func parts(value string) []string {
	list := []string{value}
	if trimmed := strings.TrimSpace(value); trimmed != value && len(trimmed) >= MinMasked {
		list = append(list, trimmed)
	}
	for line := range strings.Lines(value) {
		if line = strings.TrimSpace(line); len(line) >= MinMasked && line != value {
			list = append(list, line)
		}
	}
	return list
}

func base64Forms(plain string) []string {
	var list []string
	for _, enc := range [...]*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		list = append(list, enc.EncodeToString([]byte(plain)))
		for shift := range 3 {
			text := enc.EncodeToString([]byte("\x00\x00"[:shift] + plain))
			from := (shift*8 + 5) / 6 // the first character that no byte before the value touches
			to := (shift + len(plain)) * 8 / 6
			list = append(list, text[from:to])
		}
	}
	return append(list, base64.StdEncoding.EncodeToString([]byte(plain)), base64.URLEncoding.EncodeToString([]byte(plain)))
}

func escapedForms(plain string) []string {
	query, path, user := url.QueryEscape(plain), url.PathEscape(plain), url.User(plain).String()
	component := strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(query)
	all := allPercent(plain)
	list := []string{query, path, user, component, all, strings.ReplaceAll(all, "%2F", "/")} // the last is Python's quote()
	for _, s := range list[:6] {
		list = append(list, lowerPercent(s))
	}
	marshalled, err := json.Marshal(plain)
	if err == nil {
		list = append(list, strings.Trim(string(marshalled), `"`))
	}
	short := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(strings.Trim(string(marshalled), `"`))
	ascii := strings.Trim(strconv.QuoteToASCII(plain), `"`)
	return append(list,
		short,
		strings.ReplaceAll(short, "/", `\/`),
		ascii, // Go's %q and Python's \u form
		strings.Trim(strconv.Quote(plain), `"`),
		html.EscapeString(plain),
		strings.NewReplacer("&#34;", "&quot;", "&#39;", "&#x27;").Replace(html.EscapeString(plain)), // Python's
		strings.ReplaceAll(html.EscapeString(plain), "&#34;", "&quot;"),
		shortUnicode.ReplaceAllString(strings.ReplaceAll(ascii, `\"`, `"`), `\x$1`), // Python's ascii()
		strings.ReplaceAll(plain, `'`, `'\''`),
		strings.ReplaceAll(plain, `'`, `'"'"'`),
		backslashed(plain, "\"\\$`"),
		backslashed(plain, "\"\\$`!"),
		backslashed(plain, " \t\"\\$`!'#&()*;<>?[]^{|}~,=%@"),
		backslashed(plain, " \t\"\\$`!'#&()*;<>?[]^{|}~,"),
		strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(plain),
	)
}

// shortUnicode is how Go writes what Python writes as \xNN.
var shortUnicode = regexp.MustCompile(`\\u00([0-9a-f]{2})`)

// backslashed is how a shell's %q, or a person, quotes the characters of special.
func backslashed(s, special string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(special, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// allPercent escapes every byte that is no letter, digit or one of -._~ (RFC 3986), unlike the forms of net/url.
func allPercent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}

func lowerPercent(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(s[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}
