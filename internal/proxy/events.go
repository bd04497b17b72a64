package proxy

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// eventBody passes server-sent events on. When it is finished it ends at the end of an event, so that the client sees a
// whole answer with its last chunk and connects again.
type eventBody struct {
	io.ReadCloser

	mu       sync.Mutex
	tail     []byte // the last bytes passed on
	finished bool
	ended    bool
}

// Read passes on what came; once finished, only up to the end of the event.
func (b *eventBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return 0, io.EOF
	}
	b.mu.Unlock()
	n, err := b.ReadCloser.Read(p)

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended { // the close came from finish
		return 0, io.EOF
	}
	if b.finished {
		if end := b.eventEnd(p[:n]); end >= 0 {
			b.ended = true
			return end, io.EOF
		}
	}
	b.remember(p[:n])
	return n, err
}

// finish ends the stream at once between two events, otherwise at the end of the present one or after within.
func (b *eventBody) finish(within time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		return
	}
	b.finished = true
	if len(b.tail) == 0 || atEventEnd(b.tail) {
		b.stop()
		return
	}
	time.AfterFunc(within, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.stop()
	})
}

// stop ends the answer and frees a Read that waits for the instance.
func (b *eventBody) stop() {
	if !b.ended {
		b.ended = true
		go b.ReadCloser.Close()
	}
}

// eventEnd returns how many bytes of p belong to the present event, -1 when it does not end in p.
func (b *eventBody) eventEnd(p []byte) int {
	seen := bytes.Clone(b.tail)
	for i, c := range p {
		seen = append(seen, c)
		if atEventEnd(seen) {
			return i + 1
		}
	}
	return -1
}

func (b *eventBody) remember(p []byte) {
	b.tail = append(b.tail, p...)
	if extra := len(b.tail) - 4; extra > 0 {
		b.tail = append(b.tail[:0], b.tail[extra:]...)
	}
}

// atEventEnd reports whether an empty line was just passed on.
func atEventEnd(seen []byte) bool {
	for _, end := range [...]string{"\n\n", "\r\r", "\r\n\r\n"} {
		if bytes.HasSuffix(seen, []byte(end)) {
			return true
		}
	}
	return false
}
