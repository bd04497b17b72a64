package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/supervise"
)

const (
	readyFile     = "ready.json" // the process whose probe passed
	heartbeatName = "heartbeat"
	// eager is how often an instance that starts is asked, so that nobody waits longer than needed. The first questions
	// come sooner, after impatient, twice impatient and so on: most programs listen within a few milliseconds.
	eager     = 200 * time.Millisecond
	impatient = 10 * time.Millisecond
	// messageShown is how many bytes are shown of what a probe says, with the beginning of a failing answer.
	messageShown = 300
)

// probeForLife asks the instance again and again, whatever it answers, until the context ends.
func (it *instance) probeForLife(ctx context.Context) {
	inst := it.asked()
	ask, p := it.asker(inst), probeOf(inst.Workload)
	var reported time.Time
	starting := impatient // only once: an instance that was started again is asked steadily, or it seems to fail at once
	for {
		began := time.Now()
		generation, result := it.askOnce(ctx, ask, p.Timeout)
		if ctx.Err() != nil {
			return
		}
		news := it.took(generation, result)
		it.restartWhenHung(ctx)
		if news || began.Sub(reported) >= p.Every-eager/2 {
			it.d.probes.send(result)
			reported = began
		}
		pause := p.Every
		if !result.OK && !it.isReady() {
			pause = min(starting, p.Every)
			starting = min(2*starting, eager)
		} else {
			starting = eager
		}
		it.mu.Lock()
		changed := it.changed
		it.mu.Unlock()
		if !it.restsUntil(ctx, time.Until(began.Add(pause)), changed) {
			return
		}
	}
}

// restsUntil waits for the next question, which comes early when the instance got a new process.
func (it *instance) restsUntil(ctx context.Context, pause time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(max(pause, time.Millisecond))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-changed:
			it.mu.Lock()
			changed = it.changed
			starting := it.sup.Phase == supervise.Running && !it.healthy
			it.mu.Unlock()
			if starting && timer.Reset(min(eager, max(pause, time.Millisecond))) {
				continue
			}
		}
	}
}

func (it *instance) isReady() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.healthy
}

// askOnce asks one question and returns the process it was put to.
func (it *instance) askOnce(ctx context.Context, ask asker, timeout time.Duration) (supervise.Proc, domain.ProbeResult) {
	it.mu.Lock()
	state, w, ended := it.sup, it.inst.Workload, it.howItEnded()
	it.mu.Unlock()
	result := domain.ProbeResult{Instance: it.id, At: time.Now(), Restarts: state.Restarts}
	err := errors.New("it is not running")
	switch state.Phase {
	case supervise.Running:
		limited, cancel := context.WithTimeout(ctx, timeout)
		err = ask(limited, state)
		cancel()
	case supervise.Pausing:
		err = errors.New(ended)
	case supervise.Ended:
	}
	result.Took = time.Since(result.At)
	result.OK = err == nil
	if err != nil {
		result.Message = shortened(masked(w, err.Error())) // in this order: half a value is not found
	}
	return state.Child, result
}

// took notes an answer, unless the process was replaced meanwhile, and reports whether it is the first good one.
func (it *instance) took(asked supervise.Proc, r domain.ProbeResult) bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	if asked != it.sup.Child || it.sup.Phase != supervise.Running {
		return false
	}
	first := r.OK && !it.healthy
	if r.OK {
		it.healthy, it.proven, it.failed, it.why = true, true, 0, ""
	} else {
		it.failed++
		it.why = r.Message
	}
	if first {
		// A log line that means ready may be gone when the daemon starts anew; this file says that it was there.
		if err := supervise.WriteJSON(filepath.Join(it.dir, readyFile), asked); err != nil {
			it.d.cfg.Logger.Warn("remember readiness", "instance", it.id.String(), "error", err)
		}
	}
	it.show()
	return first
}

// asker puts one question to the running process; nil means healthy.
type asker func(ctx context.Context, state supervise.State) error

// asker returns the question that the workload's probe means.
func (it *instance) asker(inst domain.Instance) asker {
	p := probeOf(inst.Workload)
	switch {
	case p.HTTP != "":
		return it.askHTTP(p.HTTP, inst.Workload.Hosts)
	case p.TCP:
		return it.askTCP
	case p.Exec != "":
		return it.askExec(p.Exec, inst)
	case p.Heartbeat > 0:
		return it.askHeartbeat(p.Heartbeat)
	case p.Log != "":
		return it.askLog(p.Log)
	default:
		return func(context.Context, supervise.State) error { return nil } // it runs
	}
}

func (it *instance) askHTTP(path string, hosts []string) asker {
	client := &http.Client{
		// A connection of its own for each question: an old one says nothing about whether new ones are taken.
		Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, _ supervise.State) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr(it.portNow())+path, nil)
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", "belay-probe")
		if len(hosts) > 0 && !strings.Contains(hosts[0], "*") {
			req.Host = hosts[0] // frameworks refuse a host that is not theirs
		}
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("GET %s: %w", path, Cause(ctx, err))
		}
		defer resp.Body.Close() //nolint:errcheck // read only
		if resp.StatusCode >= 200 && resp.StatusCode < 400 {
			return nil
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, endOfLog))
		return fmt.Errorf("GET %s: %s%s", path, resp.Status, quoted(body))
	}
}

func (it *instance) askTCP(ctx context.Context, _ supervise.State) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr(it.portNow()))
	if err != nil {
		return fmt.Errorf("connect to port %d: %w", it.portNow(), Cause(ctx, err))
	}
	return conn.Close()
}

func (it *instance) askExec(command string, inst domain.Instance) asker {
	return func(ctx context.Context, _ supervise.State) error {
		var out bytes.Buffer
		// It sees the /tmp and the processes of the instance: that is where it looks for life.
		c, err := it.d.confinement(ctx, inst)
		if err != nil {
			return err
		}
		code, err := it.d.run(ctx, c, oneOff{dir: it.dir, command: command, stdio: Stdio{Out: &out, Err: &out}})
		if ctx.Err() != nil {
			return fmt.Errorf("%s: no answer in time%s", command, quoted(out.Bytes()))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		if code != 0 {
			return fmt.Errorf("%s: exit code %d%s", command, code, quoted(out.Bytes()))
		}
		return nil
	}
}

func (it *instance) askHeartbeat(within time.Duration) asker {
	path := filepath.Join(it.dir, "run", heartbeatName)
	return func(_ context.Context, state supervise.State) error {
		fi, err := os.Lstat(path)
		if err != nil || fi.ModTime().Before(state.Started) {
			return errors.New("heartbeat: $BELAY_HEARTBEAT was not touched yet")
		}
		if age := time.Since(fi.ModTime()); age > within {
			return fmt.Errorf("heartbeat: the last was %s ago, at most %s are allowed", age.Round(time.Second), within)
		}
		return nil
	}
}

// askLog looks for a line that means ready. Once it was seen, the process is healthy for as long as it runs.
func (it *instance) askLog(pattern string) asker {
	re, err := regexp.Compile(pattern)
	reader := logReader{path: it.d.Logs(it.id)}
	return func(_ context.Context, state supervise.State) error {
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		if it.isReady() {
			return nil
		}
		if reader.of != state.Child {
			reader.of, reader.at = state.Child, state.LogFrom
		}
		if !reader.find(re) {
			return fmt.Errorf("log: no line matches %s yet", pattern)
		}
		return nil
	}
}

// logReader reads the whole lines of a log that grows and may be emptied.
type logReader struct {
	path string
	of   supervise.Proc
	at   int64
}

// find reads on from where it stopped, at most a bounded piece, and reports whether a line matches.
func (l *logReader) find(re *regexp.Regexp) bool {
	const piece = 4 << 20
	f, err := os.Open(l.path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // read only
	if fi, err := f.Stat(); err == nil && fi.Size() < l.at {
		l.at = 0
	}
	data, err := io.ReadAll(io.NewSectionReader(f, l.at, piece))
	if err != nil {
		return false
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	if end == 0 && len(data) == piece {
		end = len(data) // a line without an end
	}
	l.at += int64(end)
	for line := range bytes.Lines(data[:end]) {
		if re.Match(bytes.TrimRight(line, "\r\n")) {
			return true
		}
	}
	return false
}

// Cause leaves out of a network error what the message around it says, and tells one that ran out of time.
func Cause(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func quoted(body []byte) string {
	text := strings.TrimSpace(string(body[:min(len(body), endOfLog)]))
	if text == "" {
		return ""
	}
	return ": " + text
}

// shortened is a message in one line, without what is too much of an answer.
func shortened(message string) string {
	text := strings.Join(strings.Fields(message), " ")
	return strings.ToValidUTF8(text[:min(len(text), messageShown)], "")
}

// lastLines returns the last n lines of a file in one line of at most size bytes.
func lastLines(path string, w domain.Workload, n, size int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // read only
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(0, fi.Size()-endOfLog)
	data, _ := io.ReadAll(io.NewSectionReader(f, from, endOfLog))
	// Masked before it is cut: half a value is not found. What the read itself cut is left out.
	text := masked(w, string(data))
	if _, whole, ok := strings.Cut(text, "\n"); ok && from > 0 {
		text = whole
	}
	text = strings.ToValidUTF8(text[max(0, len(text)-size):], "")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = slices.Compact(lines[max(0, len(lines)-n):]) // each start of a crash loop says the same
	return strings.Join(lines, " | ")
}

// endOfLog is how many bytes of a log are read for its last lines.
const endOfLog = 64 << 10
