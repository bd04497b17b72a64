package proxy

import (
	"errors"
	"io"
	"testing"
)

// closedAtItsEnd gives its last bytes together with the end, and is closed then, as the server closes the body of a request
// whose answer begins.
type closedAtItsEnd struct{ read bool }

func (c *closedAtItsEnd) Read(p []byte) (int, error) {
	if c.read {
		return 0, errors.New("read on closed body")
	}
	c.read = true
	return copy(p, "all"), io.EOF
}

// net/http looks once more for the end of a body that it has sent: an error there would cut the answer off.
func TestTheEndOfABodyIsRemembered(t *testing.T) {
	body := &replayBody{src: &closedAtItsEnd{}}
	view := body.view()
	var p [16]byte
	if n, err := view.Read(p[:]); string(p[:n]) != "all" || !errors.Is(err, io.EOF) {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	if n, err := view.Read(p[:]); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the second look gives %d, %v", n, err)
	}
	again, err := io.ReadAll(body.view())
	if string(again) != "all" || err != nil {
		t.Errorf("another attempt reads %q, %v", again, err)
	}
}
