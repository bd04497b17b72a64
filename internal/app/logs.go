package app

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
)

// stageLogs keeps what the stages of deliveries printed, in one file each.
type stageLogs struct{ dir string }

// maxStageLog bounds one stage's log: what comes after it is dropped, and said to be.
const maxStageLog = 100 << 20

func (l stageLogs) path(app string, number int, stage domain.Stage) string {
	return filepath.Join(l.dir, app, strconv.Itoa(number), strings.ReplaceAll(string(stage), " ", "-")+".log")
}

// Open starts the log of a stage; a stage that runs again after a restart goes on with it.
func (l stageLogs) Open(app string, number int, stage domain.Stage) (io.WriteCloser, error) {
	path := l.path(app, number, stage)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &bounded{f: f}, nil
}

// bounded is a log with an end. Commands in parallel write to it whole.
type bounded struct {
	mu   sync.Mutex
	f    *os.File
	size int64
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size > maxStageLog {
		return len(p), nil
	}
	b.size += int64(len(p))
	if b.size > maxStageLog {
		p2 := []byte("\nthe log is longer than 100 MiB: the rest is not kept\n")
		_, err := b.f.Write(p2)
		return len(p), err
	}
	return b.f.Write(p)
}

func (b *bounded) Close() error { return b.f.Close() }

// Copy writes the logs of a delivery's stages in their order; with Follow it goes on until the delivery is over.
func (l stageLogs) Copy(ctx context.Context, q delivery.LogQuery, w io.Writer, over func() bool) error {
	var files []*follower
	for _, s := range delivery.Stages {
		if q.Stage == "" || q.Stage == string(s.Name) {
			files = append(files, &follower{path: l.path(q.App, q.Delivery, s.Name), name: string(s.Name)})
		}
	}
	if len(files) == 0 {
		return domain.Errorf(domain.Invalid, "unknown stage %q", q.Stage).WithHint("build, test, deploy staging, verify staging, deploy production, verify production, monitor")
	}
	defer func() {
		for _, f := range files {
			f.close()
		}
	}()
	for {
		ended := over()
		for _, f := range files {
			if err := f.copy(w); err != nil {
				return err
			}
		}
		if !q.Follow || ended {
			return nil
		}
		select {
		case <-time.After(followEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// follower copies the whole lines that were added to a file, each with the name of where it comes from.
type follower struct {
	path, name string
	f          *os.File
	rest       []byte
	offset     int64
}

func (f *follower) copy(w io.Writer) error {
	if f.f == nil {
		file, err := os.Open(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		f.f = file
	}
	if info, err := f.f.Stat(); err == nil && info.Size() < f.offset {
		f.offset, f.rest = 0, nil // copied away and truncated
	}
	if _, err := f.f.Seek(f.offset, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReader(f.f)
	for {
		chunk, err := r.ReadBytes('\n')
		f.offset += int64(len(chunk))
		f.rest = append(f.rest, chunk...)
		if bytes.HasSuffix(f.rest, []byte("\n")) || len(f.rest) > maxLine {
			if _, werr := fmt.Fprintf(w, "%s | %s\n", f.name, bytes.TrimRight(f.rest, "\r\n")); werr != nil {
				return werr
			}
			f.rest = f.rest[:0]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// maxLine is where a line without an end is cut.
const maxLine = 64 << 10

// gone closes the file when it was removed, having been read to its end, and reports whether it was.
func (f *follower) gone() bool {
	if f.f == nil {
		return false
	}
	_, err := os.Stat(f.path)
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	f.close()
	return true
}

func (f *follower) close() {
	if f.f != nil {
		_ = f.f.Close()
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu    sync.Mutex
	limit int
	b     []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - t.limit; over > 0 {
		t.b = append([]byte(nil), t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
