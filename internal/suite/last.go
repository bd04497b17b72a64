package suite

import (
	"bytes"
	"strings"
	"sync"
)

// lastShown is how much of a line a reason shows, in bytes.
const lastShown = 200

// lastLine remembers the last line that holds anything: it mostly says why a command without a report failed.
type lastLine struct {
	mu   sync.Mutex
	part []byte // the line that has no end yet, cut
	last string
}

// Write takes any part of the output. It never fails.
func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		l.part = append(l.part, line[:min(len(line), max(0, lastShown-len(l.part)))]...)
		if !ended {
			return n, nil
		}
		l.end()
		p = rest
	}
}

func (l *lastLine) end() {
	if text := strings.TrimSpace(strings.ToValidUTF8(string(l.part), "")); text != "" {
		l.last = text
	}
	l.part = l.part[:0]
}

// String is the line as the end of a message, or nothing.
func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	if l.last == "" {
		return ""
	}
	return ": " + l.last
}
