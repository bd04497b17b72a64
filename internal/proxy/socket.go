package proxy

import (
	"errors"
	"io"
	"sync"
	"time"
)

// goingAway is an unmasked WebSocket close frame with status 1012: service restart.
var goingAway = []byte{0x88, 0x02, 0x03, 0xf4}

// socketGrace is how long a client may take at most to answer a close, and a frame or an event to come to its end.
const socketGrace = 3 * time.Second

var errDrained = errors.New("websocket drained")

// socketBody passes a WebSocket's frames on from the instance to the client. When it is finished it puts a close frame
// behind the present frame, lets the client's answer through to the instance, and ends.
type socketBody struct {
	io.ReadWriteCloser

	mu       sync.Mutex
	frames   frames
	finished bool
	grace    time.Duration // the client has to answer the close
	closing  bool          // the close frame is on its way
	answered chan struct{}
	once     sync.Once
}

func newSocketBody(c io.ReadWriteCloser) *socketBody {
	return &socketBody{ReadWriteCloser: c, answered: make(chan struct{})}
}

// Read passes frames on; once finished it adds the close frame.
func (b *socketBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	closing := b.closing
	b.mu.Unlock()
	if closing {
		return b.await()
	}
	n, err := b.ReadWriteCloser.Read(p)

	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.finished {
		b.frames.pass(p[:n])
		return n, err
	}
	if b.frames.between() { // finish freed this Read: nothing more of the instance is passed on
		b.closing = true
		return copy(p, goingAway), nil
	}
	end := b.frames.passOne(p[:n])
	if !b.frames.between() || end+len(goingAway) > len(p) {
		return end, err
	}
	b.closing = true
	return end + copy(p[end:], goingAway), nil
}

// await lets the client answer the close before both connections end.
func (b *socketBody) await() (int, error) {
	b.mu.Lock()
	grace := b.grace
	b.mu.Unlock()
	select {
	case <-b.answered:
	case <-time.After(grace):
	}
	return 0, errDrained
}

// Write passes the client's frames on.
func (b *socketBody) Write(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Write(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing && len(p) > 0 && p[0]&0x0f == 8 {
		b.once.Do(func() { close(b.answered) })
	}
	return n, err
}

// CloseWrite half-closes towards the instance.
func (b *socketBody) CloseWrite() error {
	b.once.Do(func() { close(b.answered) })
	if c, ok := b.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// finish ends the connection after the present frame.
func (b *socketBody) finish(within time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		return
	}
	b.finished, b.grace = true, within
	// A Read that waits for the instance is freed by a deadline; the connection itself stays open for the close.
	if c, ok := b.ReadWriteCloser.(interface{ SetReadDeadline(time.Time) error }); ok {
		wait := time.Duration(0)
		if !b.frames.between() {
			wait = within
		}
		_ = c.SetReadDeadline(time.Now().Add(wait)) // a closed connection is at its end already
		return
	}
	go b.ReadWriteCloser.Close()
}

// frames follows the frames of a WebSocket.
type frames struct {
	head []byte // of a frame whose length is not known yet
	left uint64 // bytes of the present payload
}

// between reports whether the last byte seen ended a frame.
func (f *frames) between() bool { return len(f.head) == 0 && f.left == 0 }

// pass follows all of p.
func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		p = p[f.passOne(p):]
	}
}

// passOne follows p to the end of the present frame and returns how many bytes that were.
func (f *frames) passOne(p []byte) int {
	used := 0
	for used < len(p) {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)-used))
			f.left -= n
			used += int(n)
		} else {
			f.head = append(f.head, p[used])
			used++
			if !f.sized() {
				continue
			}
		}
		if f.left == 0 {
			return used
		}
	}
	return used
}

// sized reads the length of the payload once the head of the frame is whole.
func (f *frames) sized() bool {
	if len(f.head) < 2 {
		return false
	}
	size, extra := uint64(f.head[1]&0x7f), 0
	switch size {
	case 126:
		extra = 2
	case 127:
		extra = 8
	}
	need := 2 + extra
	if f.head[1]&0x80 != 0 {
		need += 4 // the mask
	}
	if len(f.head) < need {
		return false
	}
	if extra > 0 {
		size = 0
		for _, c := range f.head[2 : 2+extra] {
			size = size<<8 | uint64(c)
		}
	}
	f.head, f.left = f.head[:0], size
	return true
}
