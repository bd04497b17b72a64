package config

import (
	"math"
	"regexp"
	"strings"
)

// secretKinds are credentials that can be told by their form.
var secretKinds = []struct {
	name    string
	prefix  int // letters that say the kind, and may be shown
	pattern *regexp.Regexp
}{
	{"Stripe live key", 8, regexp.MustCompile(`^(sk|rk)_live_[0-9A-Za-z]{4,}`)},
	{"Stripe test key", 8, regexp.MustCompile(`^(sk|rk)_test_[0-9A-Za-z]{10,}`)},
	{"AWS access key", 4, regexp.MustCompile(`^(AKIA|ASIA)[0-9A-Z]{16}$`)},
	{"GitHub token", 4, regexp.MustCompile(`^(gh[pousr]_[0-9A-Za-z]{20,}|github_pat_[0-9A-Za-z_]{20,})`)},
	{"GitLab token", 6, regexp.MustCompile(`^glpat-[0-9A-Za-z_-]{16,}`)},
	{"Slack token", 5, regexp.MustCompile(`^xox[abpors]-[0-9A-Za-z-]{10,}`)},
	{"Google API key", 4, regexp.MustCompile(`^AIza[0-9A-Za-z_-]{30,}`)},
	{"SendGrid key", 3, regexp.MustCompile(`^SG\.[0-9A-Za-z_-]{16,}\.`)},
	{"npm token", 4, regexp.MustCompile(`^npm_[0-9A-Za-z]{30,}`)},
	{"private key", 10, regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)},
	{"JSON Web Token", 3, regexp.MustCompile(`^eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.`)},
	{"URL with a password", 6, regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[^:/@ ]*:[^@/ $][^@/ ]+@`)},
}

var (
	secretName = regexp.MustCompile(`(?i)(^|_)(secret|password|passwd|pwd|token|api_?key|private_?key|access_?key|secret_?key|credentials?|passphrase)($|_)`)
	notSecret  = regexp.MustCompile(`(?i)_(file|path|dir|url|host|header|name|ttl|timeout|length|expiry|expires|issuer|type|enabled|id|algorithm|cookie)$`)
	randomText = regexp.MustCompile(`^[0-9A-Za-z+/=_.-]{16,}$`)
)

// looksSecret says what kind of secret a variable's value seems to be, "" for none.
func looksSecret(name, value string) string {
	value = strings.TrimSpace(value)
	for _, k := range secretKinds {
		if k.pattern.MatchString(value) {
			return k.name
		}
	}
	if !secretName.MatchString(name) || notSecret.MatchString(name) || strings.HasPrefix(value, "$") || strings.Contains(value, "://") {
		return ""
	}
	if randomText.MatchString(value) && entropy(value) > 3 {
		return "a random value under a secret's name"
	}
	if m := secretName.FindStringSubmatch(name); len(value) >= 6 && strings.Contains(strings.ToLower(m[2]), "pass") {
		return "a password by its name"
	}
	return ""
}

// entropy is Shannon's, in bits per character.
func entropy(s string) float64 {
	counts := map[rune]float64{}
	total := 0.0
	for _, r := range s {
		counts[r]++
		total++
	}
	bits := 0.0
	for _, n := range counts {
		bits -= n / total * math.Log2(n/total)
	}
	return bits
}

// maskSecret shows what tells the kind of a secret and at most four letters more.
func maskSecret(text string) string {
	runes := []rune(strings.Trim(text, `"'`))
	shown := 2
	for _, k := range secretKinds {
		if k.pattern.MatchString(string(runes)) {
			shown = k.prefix
			if len(runes) >= 3*k.prefix/2 && k.name != "URL with a password" && k.name != "private key" {
				shown += 4
			}
		}
	}
	if shown >= len(runes) {
		shown = 0
	}
	return string(runes[:shown]) + "…"
}
