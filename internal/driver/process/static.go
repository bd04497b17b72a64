package process

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// StaticMain is the verb "belay static DIR": it serves the files of DIR on 127.0.0.1:$PORT until TERM, and then finishes
// open requests.
func StaticMain(args []string) int {
	if len(args) != 1 || os.Getenv("PORT") == "" {
		fmt.Fprintln(os.Stderr, "static: give the folder to serve, and the port in $PORT")
		return 2
	}
	root, err := os.OpenRoot(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "static:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", os.Getenv("PORT")))
	if err != nil {
		fmt.Fprintln(os.Stderr, "static:", err)
		return 1
	}
	server := &http.Server{Handler: Static(root.FS()), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = server.Shutdown(drain)
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "static:", err)
		return 1
	}
	return 0
}

// Static serves the files of a folder: index.html for a folder, 404.html for what is not there, never a listing, never
// what begins with a dot (but /.well-known/) nor what a link leads to outside.
func Static(files fs.FS) http.Handler {
	tags := &etags{files: files, known: map[string]string{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		clean := path.Clean("/" + r.URL.Path)
		name := strings.TrimPrefix(clean, "/")
		if name == "" {
			name = "."
		}
		fi, err := fs.Stat(files, name)
		switch {
		case err != nil || dotted(name):
			notFound(files, w)
			return
		case fi.IsDir() && !strings.HasSuffix(r.URL.Path, "/"):
			// Relative links of the page need the slash. The path is ours alone: no host can be smuggled in.
			http.Redirect(w, r, clean+"/", http.StatusMovedPermanently)
			return
		case fi.IsDir():
			name = path.Join(name, "index.html")
		}
		if !serve(tags, w, r, name) {
			notFound(files, w)
		}
	})
}

// serve answers with one file; false means that there is none.
func serve(tags *etags, w http.ResponseWriter, r *http.Request, name string) bool {
	f, err := tags.files.Open(name)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // read only
	fi, err := f.Stat()
	content, ok := f.(io.ReadSeeker)
	if err != nil || !ok || !fi.Mode().IsRegular() {
		return false
	}
	tag, err := tags.of(name, content)
	if err != nil {
		return false
	}
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache") // may be kept, must be asked for: a rollback is seen at once
	// No date: files of an image have the same one release after release, and a browser would keep the wrong file.
	http.ServeContent(w, r, name, time.Time{}, content)
	return true
}

// etags are hashes of the contents. Files of a release never change, so each is read once.
type etags struct {
	files fs.FS
	mu    sync.Mutex
	known map[string]string
}

func (e *etags) of(name string, content io.ReadSeeker) (string, error) {
	e.mu.Lock()
	tag, ok := e.known[name]
	e.mu.Unlock()
	if ok {
		return tag, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return "", err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	tag = fmt.Sprintf(`"%x"`, sum.Sum(nil)[:12])
	e.mu.Lock()
	e.known[name] = tag
	e.mu.Unlock()
	return tag, nil
}

func notFound(files fs.FS, w http.ResponseWriter) {
	page, err := fs.ReadFile(files, "404.html")
	if err != nil {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write(page) // the client may be gone
}

// dotted reports whether a part of the path is hidden by its name.
func dotted(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 1 && part[0] == '.' && part != ".well-known" {
			return true
		}
	}
	return false
}
