package build

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

// lines joins the output of commands that run at once into one log, line by line, each with its command's purpose.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) say(purpose, text string) { _ = l.write(purpose, []byte(text+"\n")) }

func (l *lines) write(purpose string, line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.w.Write(append([]byte(purpose+" | "), line...))
	return err
}

func (l *lines) stream(purpose string) *stream { return &stream{to: l, purpose: purpose} }

// stream is one command's output.
type stream struct {
	mu      sync.Mutex
	to      *lines
	purpose string
	part    []byte
	first   string // the first line that holds anything: the first finding of a linter
	last    string // the last line that holds anything: it mostly says why a command failed
}

// note remembers a line that says something.
func (s *stream) note(line []byte) {
	if text := strings.TrimSpace(strings.ToValidUTF8(string(line[:min(len(line), lastShown)]), "")); text != "" {
		s.last = text
		if s.first == "" {
			s.first = text
		}
	}
}

// said is the last line as the end of a message, or nothing.
func (s *stream) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == "" {
		return ""
	}
	return ": " + s.last
}

// lastShown is how much of the last line a message shows, in bytes.
const lastShown = 200

// longest is where a line without an end is cut, in bytes.
const longest = 64 << 10

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part = append(s.part, p...)
	for {
		i := bytes.IndexByte(s.part, '\n')
		if i < 0 && len(s.part) < longest {
			return len(p), nil
		}
		line := s.part[:i+1]
		if i < 0 {
			line, i = append(bytes.Clone(s.part[:longest]), '\n'), longest-1
		}
		s.note(line)
		if err := s.to.write(s.purpose, line); err != nil {
			return 0, err
		}
		s.part = s.part[i+1:]
	}
}

// flush writes a last line that has no end.
func (s *stream) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.part) == 0 {
		return nil
	}
	s.part = append(s.part, '\n')
	s.note(s.part)
	defer func() { s.part = nil }()
	return s.to.write(s.purpose, s.part)
}

// headline is the first line of a command, for messages.
func headline(run string) string {
	line, _, more := strings.Cut(strings.TrimSpace(run), "\n")
	if len(line) > 100 {
		line, more = line[:100], true
	}
	if more {
		line += " …"
	}
	return line
}

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

func some(names []string) string {
	const shown = 5
	if len(names) > shown {
		return strings.Join(names[:shown], ", ") + fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return strings.Join(names, ", ")
}
