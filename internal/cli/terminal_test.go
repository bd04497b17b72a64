package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/sys/unix"
)

// screen is the far end of a terminal on which a command runs.
type screen struct {
	keyboard *os.File
	cmd      *exec.Cmd
	read     chan struct{} // closed when nothing more comes

	mu    sync.Mutex
	wrote bytes.Buffer
}

// onTerminal runs belay on a pseudo-terminal of 100 columns.
func onTerminal(t *testing.T, f *fake, env []string, args ...string) *screen {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	fd := int(far.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100}); err != nil {
		t.Fatal(err)
	}
	near, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	cmd := exec.CommandContext(ctx, "belay", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = near, near, near
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TERM=xterm-256color", "TZ=UTC", "BELAY_DATA=" + f.dir}, env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	s := &screen{keyboard: far, cmd: cmd, read: make(chan struct{})}
	t.Cleanup(func() { stop(); _ = far.Close() })
	go func() {
		defer close(s.read)
		buf := make([]byte, 4096)
		for {
			n, err := far.Read(buf)
			s.mu.Lock()
			s.wrote.Write(buf[:n])
			s.mu.Unlock()
			if err != nil { // the command closed its end
				return
			}
		}
	}()
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrote.String()
}

// until waits for text on the screen.
func (s *screen) until(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(ansi.Strip(s.text()), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q is not on the screen:\n%s", text, ansi.Strip(s.text()))
		}
	}
}

// code waits for the command and returns its exit code.
func (s *screen) code() int {
	_ = s.cmd.Wait() // the exit code says more
	<-s.read
	return s.cmd.ProcessState.ExitCode()
}

// On a terminal the block is redrawn in place, over a restart of the server.
func TestTheBlockIsRedrawnInPlace(t *testing.T) {
	s := onTerminal(t, start(t, "look-restart"), nil, "--app", "shop-api", "show", "--follow")
	if code := s.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	said := ansi.Strip(s.text())
	for _, want := range []string{
		"shop-api #142", "ctrl-c leaves; the delivery goes on: belay show 142 --follow", "server away, the delivery goes on",
		"done: 4f2c81a serves production",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not on the screen:\n%s", want, said)
		}
	}
	headers, ups := strings.Count(said, "shop-api #142"), len(cursorUp.FindAllString(s.text(), -1))
	if headers-1 > ups || ups == 0 {
		t.Errorf("%d headers, but the cursor went up %d times: the block was not redrawn in place", headers, ups)
	}
	// Behind the last line the screen is erased: the line must have ended before.
	end := s.text()[strings.LastIndex(s.text(), "done: 4f2c81a"):]
	if erase := strings.Index(end, "\x1b[J"); erase >= 0 && !strings.Contains(end[:erase], "\n") {
		t.Errorf("the last line is erased: %q", end)
	}
}

var cursorUp = regexp.MustCompile(`\x1b\[\d*A`)

func TestCtrlCOnATerminalLeaves(t *testing.T) {
	f := start(t, "stuck")
	s := onTerminal(t, f, nil, "--app", "shop-api", "show", "--follow")
	s.until(t, "ctrl-c leaves")
	if _, err := s.keyboard.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	if code := s.code(); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if said := ansi.Strip(s.text()); !strings.Contains(said, "left; #142 goes on: belay show 142 --follow") {
		t.Errorf("it said:\n%s", said)
	}
}

// Programs that read a terminal's output, and people who want no drawing, get lines.
func TestPlainLinesOnATerminal(t *testing.T) {
	for _, env := range []string{"NO_COLOR=1", "CI=true", "TERM=dumb"} {
		t.Run(env, func(t *testing.T) {
			s := onTerminal(t, start(t, "good"), []string{env}, "--app", "shop-api", "show", "--follow")
			if code := s.code(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if said := s.text(); strings.Contains(said, "\x1b") || !strings.Contains(said, "14:13:02Z deploy production  5 % for 15m") {
				t.Errorf("it said:\n%q", said)
			}
		})
	}
}
