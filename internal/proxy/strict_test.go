package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// exchangeRaw sends the bytes and returns the status of each answer until the connection ends.
func exchangeRaw(t *testing.T, addr, request string) (statuses []int) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, res.Body)
		statuses = append(statuses, res.StatusCode)
	}
}

func TestAmbiguousRequestsAreRefused(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x", mixed)
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	const host = "Host: shop.example\r\n"
	for name, c := range map[string]struct {
		request string
		want    string
	}{
		"plain":                {"GET / HTTP/1.1\r\n" + host + "\r\n", "[200]"},
		"pipelined":            {strings.Repeat("GET / HTTP/1.1\r\n"+host+"\r\n", 3), "[200 200 200]"},
		"length, then another": {"POST /length HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n" + host + "\r\n", "[200 200]"},
		"chunks, then another": {"POST /length HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", "[200 200]"},
		"CL and TE":            {"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "[400]"},
		"TE and CL, pipelined": {"GET / HTTP/1.1\r\n" + host + "\r\nPOST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "[200 400]"},
		"two lengths":          {"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "[400]"},
		"list of lengths":      {"POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc", "[400]"},
		"signed length":        {"POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", "[400]"},
		"TE with a list":       {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "[400]"},
		"two TE":               {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "[400]"},
		"TE in 1.0":            {"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "[400]"},
		"space before colon":   {"POST / HTTP/1.1\r\n" + host + "Content-Length : 3\r\n\r\nabc", "[400]"},
		"folded line":          {"GET / HTTP/1.1\r\n" + host + "A: b\r\n c\r\n\r\n", "[400]"},
		"folded with a tab":    {"GET / HTTP/1.1\r\n" + host + "A: b\r\n\tc\r\n\r\n", "[400]"},
		"bare LF in a head":    {"GET / HTTP/1.1\r\n" + host + "A: b\n\r\n", "[400]"},
		"bare LF, first line":  {"GET / HTTP/1.1\n" + host + "\r\n", "[400]"},
		"bare LF at the end":   {"GET / HTTP/1.1\r\n" + host + "\n", "[400]"},
		"bare CR in a value":   {"GET / HTTP/1.1\r\n" + host + "A: b\rc\r\n\r\n", "[400]"},
		"NUL in a value":       {"GET / HTTP/1.1\r\n" + host + "A: b\x00c\r\n\r\n", "[400]"},
		"no host":              {"GET / HTTP/1.1\r\n\r\n", "[400]"},
		"two hosts":            {"GET / HTTP/1.1\r\n" + host + host + "\r\n", "[400]"},
		"TRACE":                {"TRACE / HTTP/1.1\r\n" + host + "\r\n", "[405]"},
		"CONNECT":              {"CONNECT shop.example:80 HTTP/1.1\r\n" + host + "\r\n", "[405]"},
		"long head":            {"GET / HTTP/1.1\r\n" + host + "A: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", "[431]"},
		"bad chunk size":       {"POST /length HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", "[]"},
		"h2c upgrade":          {"GET / HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "[200]"},
		"refused websocket":    {"GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\n" + host + "\n", "[200]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := exchangeRaw(t, p.addr, c.request)
			if name == "bad chunk size" && len(got) == 1 && got[0] >= 400 {
				return
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("answers %v, want %s", got, c.want)
			}
		})
	}
}

// scanConn reads its bytes from r.
type scanConn struct {
	net.Conn
	r io.Reader
}

func (c scanConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func FuzzStrictConnPassesOrCuts(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f.Add("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		whole, _ := io.ReadAll(newStrictConn(scanConn{r: strings.NewReader(in)}))
		bytewise, _ := io.ReadAll(newStrictConn(scanConn{r: iotest.OneByteReader(strings.NewReader(in))}))
		for _, got := range []string{string(whole), string(bytewise)} {
			if !strings.HasPrefix(in, strings.TrimSuffix(got, refusal)) {
				t.Fatalf("%q became %q", in, got)
			}
		}
		if (string(whole) == in) != (string(bytewise) == in) {
			t.Fatalf("%q is refused depending on how it arrives", in)
		}
	})
}
