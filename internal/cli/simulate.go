package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/judge/lab"
)

type simulateOptions struct {
	file                   string
	rate, errors, p50, p95 string
	see, within, weight    string
	perVisitor             float64
	runs                   int
	seed                   uint64
}

func simulateCommand(s *session) *cobra.Command {
	var o simulateOptions
	cmd := &cobra.Command{
		Use: "simulate [FILE]", Short: "Say what a rollout would see at your traffic, before there is one", Args: atMost(1),
		Long: `simulate plays releases against the judge, with random traffic like yours: how long until harm is seen and how many requests
fail until then, when a good release is proved, what each step of the rollout can see at all, and which weight it would take.

FILE is a belay.yaml, of which guard, rollout and monitor count; without FILE the one found upward, else the defaults.
The traffic is what --rate and --errors say, else what the app serves now, asked of the server. Latency takes part when
--p50 and --p95 are known.

FILE may also be a recording: a line of JSON per second, as belay explain ID --ticks --json prints them, or - for stdin.
Then it is judged again, with the settings of belay.yaml. A recording in which only stable served is resampled as traffic.

Exit codes
  0 printed · 2 wrong usage, file or recording · 3 the server was asked for the traffic and not reached`,
		Example: `  belay simulate --rate 50/s --errors 0.1% --p50 20ms --p95 80ms
  belay simulate --rate 3000/min --errors 0.1% --see "errors x2" --within 15m
  belay explain 143 --ticks --json | belay simulate -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.file = argument(args)
			return o.run(cmd.Context(), s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.rate, "rate", "", "requests of the app: `RATE` is 50/s, 3000/min or 180000/h")
	f.StringVar(&o.errors, "errors", "", "the share of them that fails anyway: `PERCENT`, 0.1%")
	f.StringVar(&o.p50, "p50", "", "median latency: `TIME`, 20ms")
	f.StringVar(&o.p95, "p95", "", "95th percentile of latency: `TIME`, 80ms")
	f.StringVar(&o.see, "see", "", "what you want to see: `HARM` is "+harmHint)
	f.StringVar(&o.within, "within", "", "and how soon: `TIME`; the first step's without it")
	f.StringVar(&o.weight, "weight", "", "one step of this share, `PERCENT`, instead of the file's steps")
	f.Float64Var(&o.perVisitor, "per-visitor", 1, "`REQUESTS` of one visitor, where visitors are drawn")
	f.IntVar(&o.runs, "runs", lab.DefaultRuns, "simulated rollouts per release, at most 10000")
	f.Uint64Var(&o.seed, "seed", 1, "the same seed gives the same answer")
	return cmd
}

// simulation is a question with everything that it takes to answer it.
type simulation struct {
	app     string // "" when nobody knows it
	held    held
	traffic lab.Traffic
	source  string // where the traffic comes from
	plan    []lab.Step
	// planFrom is who has the plan, with its verb; note is what it leaves out.
	planFrom, note string
	harms          []harm
	wish           wish
	runs           int
	seed           uint64
}

// wish is what somebody would like to see, and how soon.
type wish struct {
	harm   harm
	within time.Duration
}

func (o simulateOptions) run(ctx context.Context, s *session) error {
	wanted, err := o.parse()
	if err != nil {
		return err
	}
	recording, file, err := o.open(s)
	if err != nil {
		return err
	}
	if recording != nil {
		defer func() { _ = recording.Close() }() // it was only read
	}
	h, err := s.held(file)
	if err != nil {
		return err
	}
	if recording != nil {
		if o.rate != "" || o.errors != "" || o.p50 != "" || o.p95 != "" {
			return usage("%s: a recording is its own traffic: leave --rate, --errors, --p50 and --p95 out", o.file)
		}
		again, err := newReplay(o.file, h).read(ctx, recording)
		if err != nil {
			return err
		}
		if again.judged() {
			return again.show(s)
		}
		wanted.traffic, wanted.source = again.resampled(wanted.traffic.PerVisitor), again.origin()
	} else if wanted.traffic, wanted.source, err = s.trafficOf(ctx, wanted); err != nil {
		return err
	}
	q, err := wanted.question(h)
	if err != nil {
		return err
	}
	result, err := q.answer(ctx, s.now)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(result)
	}
	return s.say(s.view().simulation(q, result))
}

// open looks at FILE: a belay.yaml, of which the name is returned, or a recording, which is opened.
func (o simulateOptions) open(s *session) (recording io.ReadCloser, file string, err error) {
	if o.file == "" {
		return nil, "", nil
	}
	if o.file == "-" {
		return io.NopCloser(s.stdio.In), "", nil
	}
	name := s.file(o.file)
	if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" {
		return nil, name, nil
	}
	f, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", usage("%s: no such file", o.file).WithHint("a belay.yaml, a recording of belay explain ID --ticks --json, or nothing")
	case err != nil:
		return nil, "", usage("%w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, filepath.Join(name, config.FileName), nil
	}
	head := bufio.NewReaderSize(f, 4096)
	start, _ := head.Peek(512) // a shorter file is told by its reader
	if !bytes.HasPrefix(bytes.TrimSpace(start), []byte("{")) {
		_ = f.Close()
		if len(bytes.TrimSpace(start)) == 0 {
			return nil, "", usage("%s: it is empty", o.file)
		}
		return nil, "", usage("%s: neither a belay.yaml nor a recording", o.file).
			WithHint("a file of settings ends in .yaml; a recording has a line of JSON per second")
	}
	return struct {
		io.Reader
		io.Closer
	}{head, f}, "", nil
}

// held is what a release is held to, and where that stands.
type held struct {
	file    *config.File // nil: the defaults
	judge   judge.Config
	name    string // of the file, "" for the defaults
	app     string
	visitor bool // visitors are drawn, not requests
}

// held reads the settings of the named file, else of the one found upward, else the defaults.
func (s *session) held(name string) (held, error) {
	if name == "" {
		p, err := s.project()
		switch {
		case errors.Is(err, errMissing):
			return defaultHeld(), nil
		case p.dir == "":
			return held{}, err
		}
		name = filepath.Join(p.dir, config.FileName)
	}
	src, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return held{}, usage("%s: no such file", s.shown(name)).WithHint("belay init writes %s", config.FileName)
	}
	if err != nil {
		return held{}, usage("%w", err)
	}
	shown := s.shown(name)
	file, findings := config.Parse(shown, src, serverBounds)
	var wrong []config.Finding
	for _, f := range findings {
		if f.Severity == config.Error && (file == nil || concerns(src, f.Line)) {
			wrong = append(wrong, f)
		}
	}
	if len(wrong) > 0 {
		if err := config.Format(s.stdio.Err, wrong, s.coloured(s.stdio.Err)); err != nil {
			return held{}, err
		}
		return held{}, exit(exitUsage)
	}
	return heldTo(file, shown), nil
}

// concerns reports whether a line of belay.yaml belongs to what a simulation reads: the rest may be wrong.
func concerns(src []byte, line int) bool {
	block := ""
	for i, text := range strings.Split(string(src), "\n") {
		if i == line {
			break
		}
		if key, _, found := strings.Cut(text, ":"); found && key != "" && !strings.ContainsAny(key[:1], " \t#-") {
			block = key
		}
	}
	return !slices.Contains([]string{"build", "test", "env", "secrets", "migrations", "metrics", "verify", "gates", "parity", "notify", "driver", "inputs", "kubernetes"}, block)
}
