package proxy

import (
	"errors"
	"io"
	"sync"
)

// replayable is how much of a body is kept, so that a request of which nothing was written can be sent again.
const replayable = 64 << 10

var errReplaced = errors.New("request was sent again")

// replayBody hands out the body of a request, once per attempt. Only the newest view reads; what it read is kept for the
// next one while it is small.
type replayBody struct {
	mu       sync.Mutex
	src      io.Reader
	kept     []byte
	lost     bool // more was read than is kept
	ended    bool // src said so; it is not asked again, because the server closes it when the answer begins
	attempts int
}

// view returns the body for one more attempt, nil when its beginning is gone.
func (b *replayBody) view() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost {
		return nil
	}
	b.attempts++
	return &bodyView{body: b, attempt: b.attempts}
}

type bodyView struct {
	body    *replayBody
	attempt int
	at      int
}

func (v *bodyView) Read(p []byte) (int, error) {
	b := v.body
	b.mu.Lock()
	defer b.mu.Unlock()
	if v.attempt != b.attempts {
		return 0, errReplaced
	}
	if v.at < len(b.kept) {
		n := copy(p, b.kept[v.at:])
		v.at += n
		return n, nil
	}
	if b.ended {
		return 0, io.EOF
	}
	n, err := b.src.Read(p)
	b.ended = errors.Is(err, io.EOF)
	if !b.lost && len(b.kept)+n <= replayable {
		b.kept = append(b.kept, p[:n]...)
		v.at = len(b.kept)
	} else if n > 0 {
		b.lost, b.kept, v.at = true, nil, 0
	}
	return n, err
}

func (v *bodyView) Close() error { return nil } // the server closes the body of the client's request

// answerBody remembers whether the instance broke off.
type answerBody struct {
	io.ReadCloser
	broke bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.broke = true
	}
	return n, err
}
