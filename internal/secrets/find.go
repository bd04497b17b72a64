package secrets

import "github.com/belay-cd/belay/internal/domain"

// Finder says whether one of a masker's values, in any of its forms, is in what was written to it.
type Finder struct {
	m     *Masker
	at    int32
	found bool
}

// Finder returns one that looks for the values of the masker.
func (m *Masker) Finder() *Finder { return &Finder{m: m} }

// Write looks at p, and at what was written before it. It never fails.
func (f *Finder) Write(p []byte) (int, error) {
	if f.m == nil || f.found {
		return len(p), nil
	}
	for _, b := range p {
		f.at = f.m.step(f.at, b)
		if f.m.nodes[f.at].match > 0 {
			f.found = true
			break
		}
	}
	return len(p), nil
}

// Found reports whether a value was there.
func (f *Finder) Found() bool { return f.found }

// minTelling is the length in bytes from which a value is looked for in files: a shorter one is a word that stands in many.
const minTelling = 12

// Telling returns the values whose presence in a file can be no accident: long ones that are neither placeholders nor words.
func Telling(values []domain.Secret) []domain.Secret {
	var list []domain.Secret
	for _, v := range values {
		if len(v.Reveal()) >= minTelling && !Placeholder(v) && !Guessable(v) {
			list = append(list, v)
		}
	}
	return list
}
