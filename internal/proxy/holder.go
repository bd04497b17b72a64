package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What a worker says on its status pipe.
const (
	sayWarm     = 'w' // ready to take over
	sayServing  = 'r'
	sayReleased = 'x' // takes no new connection any more
)

// The patience of the holder.
const (
	warmWithin    = 10 * time.Second
	releaseWithin = 5 * time.Second
	stopWithin    = 35 * time.Second
	quickDeath    = time.Second // a worker that lived shorter is restarted with a growing pause
	longestPause  = time.Second
)

// holder keeps the sockets and one serving worker.
type holder struct {
	options options
	sockets []socket
	log     *slog.Logger
	out     *os.File
	ended   chan *workerProcess
	current *workerProcess
	pause   time.Duration
}

// workerProcess is one worker as the holder sees it.
type workerProcess struct {
	cmd    *exec.Cmd
	start  *os.File // the write end of its go pipe
	status *os.File
	since  time.Time
	done   chan struct{}
}

// hold opens the sockets and keeps a worker serving on them until it is told to stop.
func hold(o options) error {
	debug.SetGCPercent(20)
	log, out, err := o.logger()
	if err != nil {
		return err
	}
	sockets, lock, err := openSockets(o)
	if err != nil {
		log.Error("cannot start", "error", err)
		return err
	}
	defer lock.Close()
	h := &holder{options: o, sockets: sockets, log: log, out: out, ended: make(chan *workerProcess, 8)}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2)
	h.restart()
	debug.FreeOSMemory()
	return h.run(signals)
}

func (h *holder) run(signals <-chan os.Signal) error {
	var again <-chan time.Time
	for {
		select {
		case w := <-h.ended:
			if w != h.current {
				continue // it was replaced and has finished its requests
			}
			h.log.Error("worker ended", "worker", w.cmd.Process.Pid, "state", w.cmd.ProcessState.String())
			again = h.replace(w)
		case <-again:
			h.restart()
		case s := <-signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				return h.stop()
			}
			if err := h.upgrade(); err != nil {
				h.log.Error("upgrade failed, the present worker goes on", "error", err)
			}
		}
	}
}

// replace starts a worker for one that died: at once, and with a growing pause only while they die at once.
func (h *holder) replace(w *workerProcess) <-chan time.Time {
	if time.Since(w.since) > quickDeath {
		h.pause = 0
	}
	if h.pause == 0 {
		h.pause = 20 * time.Millisecond
		h.restart()
		return nil
	}
	h.pause = min(2*h.pause, longestPause)
	return time.After(h.pause)
}

// restart starts a worker and lets it serve as soon as it can.
func (h *holder) restart() {
	w, err := h.startWorker()
	if err != nil {
		h.log.Error("no worker", "error", err)
		w = &workerProcess{since: time.Now(), cmd: &exec.Cmd{Process: &os.Process{}, ProcessState: &os.ProcessState{}}}
		h.current = w
		h.ended <- w
		return
	}
	h.current = w
	w.goOn(h.log)
}

func (w *workerProcess) goOn(log *slog.Logger) {
	if _, err := w.start.Write([]byte{'g'}); err != nil {
		log.Error("worker does not listen", "error", err) // it is dead or dying: its end restarts it
	}
}

// startWorker runs the binary again, with the sockets.
func (h *holder) startWorker() (*workerProcess, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	binary = strings.TrimSuffix(binary, " (deleted)") // replaced by a newer one: that is what runs next
	startRead, startWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer startRead.Close()
	statusRead, statusWrite, err := os.Pipe()
	if err != nil {
		_ = startWrite.Close()
		return nil, err
	}
	defer statusWrite.Close()
	cmd := exec.Command(binary, append([]string{"proxy", "--worker"}, h.options.args()...)...)
	names := make([]string, 0, len(h.sockets)+2)
	for _, s := range h.sockets {
		names = append(names, s.name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, s.file)
	}
	names = append(names, nameGo, nameStatus)
	cmd.ExtraFiles = append(cmd.ExtraFiles, startRead, statusWrite)
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	cmd.Stdout, cmd.Stderr = h.out, h.out
	if err := cmd.Start(); err != nil {
		_, _ = startWrite.Close(), statusRead.Close()
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	w := &workerProcess{cmd: cmd, start: startWrite, status: statusRead, since: time.Now(), done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its ProcessState
		_, _ = w.start.Close(), w.status.Close()
		close(w.done)
		h.ended <- w
	}()
	return w, nil
}

// hear waits until the worker says a word.
func (w *workerProcess) hear(word byte, within time.Duration) error {
	if err := w.status.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	var b [1]byte
	for {
		if _, err := io.ReadFull(w.status, b[:]); err != nil {
			return fmt.Errorf("worker %d did not say %q: %w", w.cmd.Process.Pid, word, err)
		}
		if b[0] == word {
			return nil
		}
	}
}

// upgrade starts a worker from the binary as it is now and hands the sockets over: the next one is warm before the
// present one lets go, and connections that come between wait in the backlog.
func (h *holder) upgrade() error {
	next, err := h.startWorker()
	if err != nil {
		return err
	}
	if err := next.hear(sayWarm, warmWithin); err != nil {
		return errors.Join(err, next.cmd.Process.Kill())
	}
	was := h.current
	h.current = next
	if err := was.cmd.Process.Signal(syscall.SIGUSR2); err == nil {
		if err := was.hear(sayReleased, releaseWithin); err != nil {
			h.log.Error("worker did not let go", "error", err)
		}
	}
	next.goOn(h.log)
	h.log.Info("upgraded", "worker", next.cmd.Process.Pid)
	return nil
}

// stop ends the worker gracefully.
func (h *holder) stop() error {
	if h.current.done == nil {
		return nil
	}
	if err := h.current.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-h.current.done:
		return nil
	case <-time.After(stopWithin):
		return h.current.cmd.Process.Kill()
	}
}

// args are the flags that a worker shares with its holder.
func (o options) args() []string {
	list := []string{"--socket", o.socket, "--table", o.table}
	for _, f := range [...][2]string{
		{"--http", o.http}, {"--https", o.https}, {"--certs", o.certs}, {"--log", o.log}, {"--trusted", o.trusted},
	} {
		if f[1] != "" {
			list = append(list, f[0], f[1])
		}
	}
	if o.silent {
		list = append(list, "--no-release-header")
	}
	return list
}
