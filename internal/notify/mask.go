package notify

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

const hidden = "[masked]"

var (
	anyURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*:\\?/\\?/[^\s"']*`)
	piece  = regexp.MustCompile(`[A-Za-z0-9]+`)
	packed = regexp.MustCompile(`[A-Za-z0-9+/_-]{8,}={0,2}`)
)

// leastPiece is the length from which a part of a URL is taken for a secret.
const leastPiece = 4

// masked takes every URL out of a text, and every part of the channel's URL wherever it stands: tokens travel in paths, in
// user names and in queries, and libraries cut them up. What may stay is what says nothing: the scheme, the host, the names
// of parameters.
func masked(text string, secret domain.Secret) string {
	list := pieces(secret.Reveal())
	text = anyURL.ReplaceAllString(text, "[url]")
	text = packed.ReplaceAllStringFunc(text, func(run string) string {
		if plain, err := base64.RawStdEncoding.DecodeString(standard.Replace(run)); err == nil && holds(string(plain), list) {
			return hidden // as logins travel
		}
		return run
	})
	for _, p := range list {
		text = strings.ReplaceAll(text, p, hidden)
	}
	return text
}

// standard turns base64 for URLs into the other one, without its padding.
var standard = strings.NewReplacer("-", "+", "_", "/", "=", "")

func holds(text string, pieces []string) bool {
	return slices.ContainsFunc(pieces, func(p string) bool { return strings.Contains(text, p) })
}

// pieces are the parts of a URL that must not be seen, the longest first.
func pieces(raw string) []string {
	raw = strings.TrimSpace(raw)
	plain, err := url.PathUnescape(raw)
	if err != nil {
		plain = raw
	}
	list := append(piece.FindAllString(raw, -1), piece.FindAllString(plain, -1)...)
	list = append(list, raw, plain)
	open := []string{}
	if u, err := url.Parse(raw); err == nil {
		open = append(piece.FindAllString(u.Scheme, -1), u.Port(), "secret")
		if host := u.Hostname(); strings.ContainsAny(host, ".:") || host == "localhost" { // else it is an id or a key
			open = append(open, piece.FindAllString(host, -1)...)
		}
		for name := range u.Query() {
			open = append(open, name)
		}
		if u.User != nil {
			password, _ := u.User.Password()
			list = append(list, u.User.Username(), password)
		}
		for _, values := range u.Query() {
			list = append(list, values...)
		}
	}
	list = slices.DeleteFunc(list, func(p string) bool { return len(p) < leastPiece || slices.Contains(open, p) })
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
	return slices.Compact(list)
}

// maskedError is an error without anything of the URL; its cause is left behind, because its text would tell.
func maskedError(err error, secret domain.Secret) error {
	if err == nil {
		return nil
	}
	text := oneLine(masked(err.Error(), secret))
	var busy *BusyError
	var known *domain.Error
	switch {
	case errors.As(err, &busy):
		return &BusyError{Message: text, After: busy.After}
	case errors.As(err, &known):
		e := domain.Errorf(known.Code, "%s", text)
		if known.Hint != "" {
			e = e.WithHint("%s", known.Hint)
		}
		return e
	}
	return errors.New(text)
}
