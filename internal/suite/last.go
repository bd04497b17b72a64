package suite

import (
	"bytes"
	"io"
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

// prefixed writes whole lines, each with what tells which part of a level it comes from.
type prefixed struct {
	mu     sync.Mutex
	w      io.Writer
	prefix string
	part   []byte // a line that has no end yet
}

// longestLine is where a line is cut into two, in bytes.
const longestLine = 64 << 10

// Write implements io.Writer.
func (p *prefixed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(b)
	var out []byte
	for {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		p.part = append(p.part, line...)
		if !ended && len(p.part) < longestLine {
			break
		}
		out = append(append(append(out, p.prefix...), p.part...), '\n')
		p.part = p.part[:0]
		if b = rest; !ended {
			break
		}
	}
	if len(out) == 0 {
		return n, nil
	}
	_, err := p.w.Write(out)
	return n, err
}

// close writes what came last without an end of line.
func (p *prefixed) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.part) > 0 {
		_, _ = p.w.Write(append(append([]byte(p.prefix), p.part...), '\n')) // the log has said so before
		p.part = nil
	}
}
