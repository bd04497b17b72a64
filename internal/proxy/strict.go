package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
)

// strictConn checks the heads of HTTP/1 requests before the server reads them. It refuses what one server reads so and
// the next one otherwise, the stuff of request smuggling: a length and chunks together, folded lines, a bare CR or LF. To know
// where heads begin it follows the bodies by their framing. The server sees a head that it answers with 400.
type strictConn struct {
	net.Conn
	mode   scanMode
	head   []byte // of the present request, or the present line of a chunk
	left   uint64 // of the present body or chunk
	poison []byte // what is still to be handed out in place of a bad head
	bad    bool
}

type scanMode int

const (
	scanHead scanMode = iota
	scanBody
	scanChunkSize
	scanChunk
	scanTrailer
	scanNothing // a WebSocket, or a head that is too long anyway
)

// refusal makes every server answer 400, wherever in a head it comes.
const refusal = "\x00bad\r\n\r\n"

var (
	errSmuggling = errors.New("ambiguous request")
	errChunk     = errors.New("malformed chunk")
)

func newStrictConn(c net.Conn) net.Conn { return &strictConn{Conn: c} }

// CloseWrite half-closes the connection, as WebSockets end.
func (c *strictConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// Read hands out what came, up to the first thing that is refused.
func (c *strictConn) Read(p []byte) (int, error) {
	if c.bad {
		return c.refuse(p)
	}
	n, err := c.Conn.Read(p)
	ok, scanErr := c.scan(p[:n])
	if scanErr == nil {
		return n, err
	}
	c.bad = true
	if errors.Is(scanErr, errSmuggling) {
		c.poison = []byte(refusal)
	}
	if ok > 0 {
		return ok, nil
	}
	return c.refuse(p)
}

func (c *strictConn) refuse(p []byte) (int, error) {
	if len(c.poison) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, c.poison)
	c.poison = c.poison[n:]
	return n, nil
}

// scan follows p and returns how many bytes are good.
func (c *strictConn) scan(p []byte) (int, error) {
	at := 0
	for at < len(p) && c.mode != scanNothing {
		switch c.mode {
		case scanBody, scanChunk:
			n := min(c.left, uint64(len(p)-at))
			c.left -= n
			at += int(n)
			if c.left == 0 {
				if c.mode == scanBody {
					c.mode = scanHead
				} else {
					c.mode = scanChunkSize
				}
			}
		default:
			line := p[at:]
			end := bytes.IndexByte(line, '\n')
			if end >= 0 {
				line = line[:end+1]
			}
			c.head = append(c.head, line...)
			if end < 0 {
				return c.partial(p, at)
			}
			if err := c.line(); err != nil {
				return at, err
			}
			at += len(line)
		}
	}
	return len(p), nil
}

// partial bounds what is kept of a line that is not whole yet.
func (c *strictConn) partial(p []byte, at int) (int, error) {
	if len(c.head) > 2*headBytes {
		if c.mode != scanHead {
			return at, errChunk
		}
		c.mode, c.head = scanNothing, nil // the server answers 431 and closes
	}
	return len(p), nil
}

// line looks at c.head, which just got the end of a line.
func (c *strictConn) line() error {
	start := bytes.LastIndexByte(c.head[:len(c.head)-1], '\n') + 1
	line, ok := bytes.CutSuffix(c.head[start:], []byte("\r\n"))
	if !ok || bytes.IndexByte(line, '\r') >= 0 {
		return errSmuggling
	}
	switch c.mode {
	case scanHead:
		if start > 0 && len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			return errSmuggling
		}
		if len(line) > 0 {
			return nil
		}
		err := c.frame(string(c.head))
		c.head = c.head[:0]
		return err
	case scanChunkSize:
		c.head = c.head[:0]
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(strings.TrimRight(string(size), " \t"), 16, 48)
		if err != nil {
			return errChunk
		}
		c.mode, c.left = scanChunk, n+2
		if n == 0 {
			c.mode = scanTrailer
		}
	case scanTrailer:
		c.head = c.head[:0]
		if len(line) == 0 {
			c.mode = scanHead
		}
	}
	return nil
}

// frame reads from a whole head how the body is framed.
func (c *strictConn) frame(head string) error {
	first, rest, _ := strings.Cut(head, "\r\n")
	length, chunked, lengths, upgrade := uint64(0), false, 0, false
	for line := range strings.SplitSeq(rest, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		switch {
		case strings.EqualFold(name, "Content-Length"):
			n, err := strconv.ParseUint(value, 10, 63)
			if lengths++; err != nil || lengths > 1 {
				return errSmuggling
			}
			length = n
		case strings.EqualFold(name, "Transfer-Encoding"):
			if chunked || !strings.EqualFold(value, "chunked") || !strings.HasSuffix(first, "HTTP/1.1") {
				return errSmuggling
			}
			chunked = true
		case strings.EqualFold(name, "Upgrade"):
			upgrade = upgrade || strings.EqualFold(value, "websocket")
		}
	}
	switch {
	case chunked && lengths > 0:
		return errSmuggling
	case upgrade:
		c.mode, c.head = scanNothing, nil // an answer other than 101 closes the connection
	case chunked:
		c.mode = scanChunkSize
	case length > 0:
		c.mode, c.left = scanBody, length
	}
	return nil
}
