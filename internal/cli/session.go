package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// session is one call of the program: its global flags and its surroundings.
type session struct {
	stdio    Stdio
	commands Commands
	now      func() time.Time
	retry    time.Duration // between two tries to reach a server that went away

	dir, app, server string
	json, quiet      bool
	began            bool // the command line was understood
	above            bool // the command runs above the folder that is meant
}

// begin checks the global flags.
func (s *session) begin() error {
	s.began = true
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return usage("-C %s: %w", s.dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return usage("-C: %w", err)
	}
	if !info.IsDir() {
		return usage("-C %s: not a folder", dir)
	}
	s.dir = dir
	if s.app != "" && !appName.MatchString(s.app) {
		return usage("--app %q: not a name", s.app).WithHint("small letters, digits and -, beginning with a letter")
	}
	return nil
}

var appName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// project is the folder that holds belay.yaml, and the app's name in it.
type project struct {
	dir string
	app string
}

// project looks for belay.yaml upward from the folder, and reads the app's name even where the rest is wrong.
func (s *session) project() (project, error) {
	for dir := s.dir; ; dir = filepath.Dir(dir) {
		src, err := os.ReadFile(filepath.Join(dir, config.FileName))
		if err == nil {
			// The strict reader has bounds; a general one takes minutes for a file of nothing but brackets.
			file, _ := config.Parse(config.FileName, src, serverBounds)
			if file == nil || !appName.MatchString(string(file.App)) {
				return project{dir: dir}, usage("%s: it names no app", filepath.Join(dir, config.FileName)).WithHint("belay check says what is wrong")
			}
			return project{dir: dir, app: string(file.App)}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return project{}, usage("%s: %w", config.FileName, err)
		}
		if dir == filepath.Dir(dir) {
			return project{}, errNoFile(s.dir)
		}
	}
}

// errMissing is within the error of a folder without belay.yaml.
var errMissing = errors.New("or above it")

func errNoFile(dir string) error {
	return usage("no %s in %s %w", config.FileName, dir, errMissing).WithHint("belay init writes one; or name the app with --app")
}

// appName returns the app that is meant: --app, else that of belay.yaml.
func (s *session) appName() (string, error) {
	if s.app != "" {
		return s.app, nil
	}
	p, err := s.project()
	return p.app, err
}

// connect returns a client of the server that is meant.
func (s *session) connect() (*client.Client, error) {
	address := s.server
	if address == "" {
		address = s.stdio.Env("BELAY_SERVER")
	}
	if address == "" {
		address = s.socket()
	}
	return client.New(address, s.stdio.Env("BELAY_TOKEN"))
}

// connectApp names the app that is meant, and reaches its server.
func (s *session) connectApp() (string, *client.Client, error) {
	app, err := s.appName()
	if err != nil {
		return "", nil, err
	}
	c, err := s.connect()
	return app, c, err
}

// socket finds the socket of this machine's server; where there is none it names the place where it would be.
func (s *session) socket() string {
	places := []string{filepath.Join(s.dataFolder(), "run", "belay.sock"), "/run/belay/belay.sock", "/var/lib/belay/run/belay.sock"}
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && info.Mode()&fs.ModeSocket != 0 {
			return p
		}
	}
	return places[0]
}

// dataFolder is where serve keeps its state unless told otherwise.
func (s *session) dataFolder() string {
	if dir := s.stdio.Env("BELAY_DATA"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/belay"
	}
	if state := s.stdio.Env("XDG_STATE_HOME"); state != "" {
		return filepath.Join(state, "belay")
	}
	return filepath.Join(s.stdio.Env("HOME"), ".local", "state", "belay")
}

// longIDs is how many deliveries of an app are looked through for a long id.
const longIDs = 1000

// delivery finds the delivery that id names: "" is the newest; 142, #142, shop-api/142, dly_….
func (s *session) delivery(ctx context.Context, c *client.Client, id string) (domain.Delivery, error) {
	if strings.HasPrefix(id, "dly_") {
		return s.byLongID(ctx, c, id)
	}
	app, number, found := strings.Cut(id, "/")
	if !found {
		app, number = "", id
	}
	if app == "" {
		var err error
		if app, err = s.appName(); err != nil {
			return domain.Delivery{}, err
		}
	}
	n := client.Newest
	if id != "" {
		var err error
		n, err = strconv.Atoi(strings.TrimPrefix(number, "#"))
		if err != nil || n < 1 || !appName.MatchString(app) {
			return domain.Delivery{}, usage("%q is no delivery", id).WithHint("142, shop-api/142 or dly_…; none is the newest")
		}
	}
	return c.Delivery(ctx, app, n)
}

func (s *session) byLongID(ctx context.Context, c *client.Client, id string) (domain.Delivery, error) {
	apps := []string{s.app}
	if s.app == "" {
		var err error
		if apps, err = c.Apps(ctx); err != nil {
			return domain.Delivery{}, err
		}
	}
	for _, app := range apps {
		deliveries, err := c.Deliveries(ctx, app, longIDs)
		if err != nil {
			return domain.Delivery{}, err
		}
		for _, d := range deliveries {
			if d.ID == id {
				return c.Delivery(ctx, app, d.Number)
			}
		}
	}
	return domain.Delivery{}, domain.Errorf(domain.NotFound, "no delivery %s", id).WithHint("belay show shows the newest")
}

// terminal reports whether w is a terminal on which one may draw.
func (s *session) terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || s.stdio.Env("TERM") == "dumb" || s.stdio.Env("NO_COLOR") != "" {
		return false
	}
	ci := s.stdio.Env("CI")
	return ci == "" || ci == "false" || ci == "0"
}

func (s *session) coloured(w io.Writer) bool {
	force := s.stdio.Env("CLICOLOR_FORCE")
	if force != "" && force != "0" && s.stdio.Env("NO_COLOR") == "" {
		return true
	}
	return s.terminal(w)
}

func (s *session) errPaint() paint { return paint{on: s.coloured(s.stdio.Err)} }

// view returns how things are drawn on stdout.
func (s *session) view() view {
	return view{paint: paint{on: s.coloured(s.stdio.Out)}, now: s.now(), width: width}
}

// say writes text to stdout.
func (s *session) say(text string) error {
	_, err := io.WriteString(s.stdio.Out, text)
	return err
}

// document writes one JSON document to stdout.
func (s *session) document(v any) error {
	encoder := json.NewEncoder(s.stdio.Out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// note writes a line for people to stderr.
func (s *session) note(format string, args ...any) {
	if !s.quiet {
		fmt.Fprintf(s.stdio.Err, format+"\n", args...)
	}
}

// file is a path as the user means it: from the folder of -C, unless it is absolute.
func (s *session) file(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}
