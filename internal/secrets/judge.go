package secrets

import (
	"fmt"
	"math"
	"net/url"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// placeholders are values that stand in examples, and in production by mistake.
var placeholders = []string{
	"changeme", "change-me", "change_me", "changeit", "secret", "password", "passwd", "pass", "admin", "root", "test", "testing",
	"example", "sample", "dummy", "default", "todo", "fixme", "xxx", "none", "null", "123456", "12345678", "qwerty", "letmein",
	"replace-me", "replace_me", "your-secret-here", "your_secret_here", "postgres", "mysql", "guest",
}

// minBits is the least entropy of a secret's characters, as they are counted, below which it is called easy to guess.
const minBits = 24

// Placeholder reports whether a value, or the password in its address, is one that stands in examples.
func Placeholder(value domain.Secret) bool {
	text := strings.ToLower(strings.Trim(password(value.Reveal()), " \t\r\n<>{}[]\"'"))
	for _, p := range placeholders {
		if text == p {
			return true
		}
	}
	return text != "" && strings.Trim(text, "x*.") == ""
}

// Guessable reports whether a value, or the password in its address, is short or made of few characters.
func Guessable(value domain.Secret) bool { return bits(password(value.Reveal())) < minBits }

// password returns the password of an address that has one, and any other text as it is.
func password(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.User == nil {
		return text
	}
	if p, ok := u.User.Password(); ok {
		return p
	}
	return text
}

// bits is Shannon's entropy of a text over its own characters.
func bits(text string) float64 {
	count := map[rune]int{}
	n := 0
	for _, r := range text {
		count[r]++
		n++
	}
	sum := 0.0
	for _, c := range count {
		sum -= float64(c) * math.Log2(float64(c)/float64(n))
	}
	return sum
}

// Judge says what is wrong with the values of both environments: the same one in both, placeholders, and what is easy to guess
// in production.
func Judge(staging, production map[string]domain.Secret) []domain.SecretFinding {
	var found []domain.SecretFinding
	for _, f := range SameValue(staging, production) {
		found = append(found, domain.SecretFinding{ID: "same", Name: f.Name, Message: f.Message, Hint: f.Hint})
	}
	for env, values := range map[domain.Environment]map[string]domain.Secret{domain.Staging: staging, domain.Production: production} {
		for name, v := range values {
			var why string
			switch {
			case Placeholder(v):
				why = "is a placeholder"
			case env == domain.Production && Guessable(v):
				why = "is easy to guess: short, or of few characters"
			default:
				continue
			}
			found = append(found, domain.SecretFinding{ID: "weak", Name: name, Environment: env,
				Message: fmt.Sprintf("%s %s in %s", name, why, env), Hint: "make one: openssl rand -base64 32"})
		}
	}
	return found
}
