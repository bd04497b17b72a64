package app

import (
	"io"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
)

// masks keeps one masker per app, made again when the app's values may have changed.
type masks struct {
	known func(app string) []domain.Secret
	apps  func() []string

	mu   sync.Mutex
	each map[string]*madeMasker
}

type madeMasker struct {
	masker *secrets.Masker
	made   time.Time
}

// maskFor is how long a masker is used when no new value was learnt.
const maskFor = 10 * time.Minute

// of returns the masker of an app.
func (m *masks) of(app string) *secrets.Masker {
	m.mu.Lock()
	one := m.each[app]
	m.mu.Unlock()
	if one != nil && time.Since(one.made) < maskFor {
		return one.masker
	}
	one = &madeMasker{masker: secrets.NewMasker(m.known(app)...), made: time.Now()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.each[app] = one
	return one.masker
}

// forget lets the next text of an app be masked with what is known then.
func (m *masks) forget(app string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.each, app)
}

// text masks a text about an app.
func (m *masks) text(app, text string) string { return m.of(app).String(text) }

// anyApp masks a text that may be about any app.
func (m *masks) anyApp(text string) string {
	for _, app := range append(m.apps(), "") {
		text = m.text(app, text)
	}
	return text
}

// maskedLog is a log whose lines are masked. A line is written whole.
type maskedLog struct {
	w    io.Writer
	mu   sync.Mutex
	mask func(string) string // nil until it is known what must not be shown
}

// Write masks one line.
func (g *maskedLog) Write(p []byte) (int, error) {
	g.mu.Lock()
	mask := g.mask
	g.mu.Unlock()
	text := string(p)
	if mask != nil {
		text = mask(text)
	}
	if _, err := io.WriteString(g.w, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (g *maskedLog) with(mask func(string) string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mask = mask
}
