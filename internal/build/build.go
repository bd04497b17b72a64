// Package build turns the checkout of one commit into one artifact: it runs the app's own commands, packs the files that
// were asked for into a reproducible OCI image, and remembers what was built out of what.
package build

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/registry"
)

// Request is what one build needs.
type Request struct {
	App       string
	Commit    string    // full SHA
	Tree      string    // SHA of the commit's tree
	Time      time.Time // of the commit: the time of every file in the image
	Dir       string    // the app's folder in the checkout: where it is built and where its instances will see it
	Root      string    // where that folder lies for this process; "" is Dir
	Tracked   []string  // the commit's files below Dir, relative to it
	Lint      []string  // commands that must change no tracked file
	Run       string    // "": nothing to compile
	Files     []string  // paths and globs below Dir; "." is Tracked
	Cache     []string  // folders below Dir that are kept between builds and never packed
	Roles     []string  // commands of the roles, to learn which programs of the host they need
	Env       []string  // the whole environment of the commands, KEY=value
	Toolchain []string  // what the result also depends on: versions of compilers
	Secret    []string  // variables of Run alone, NAME=value; no part of the key
	// Mask makes what takes values out of a command's output, before it is cut into lines; nil: nothing does.
	Mask func(io.Writer) io.WriteCloser
	// Finder makes what looks for values that must not be packed; nil: nothing is looked for.
	Finder   func() Finder
	Timeout  time.Duration
	Delivery int // number of the delivery that builds
	Log      io.Writer
}

// Finder looks for values in what is written to it.
type Finder interface {
	io.Writer
	Found() bool
}

// Artifact is what a build came to.
type Artifact struct {
	Digest   string    `json:"digest"` // of the image manifest
	App      string    `json:"app"`
	Commit   string    `json:"commit"`
	Delivery int       `json:"delivery"` // the delivery that really built it; 0 is a run before a merge
	Built    time.Time `json:"built"`
	Files    int       `json:"files"`
	Size     int64     `json:"size"` // bytes of the packed layer
	Fixed    string    `json:"fixed"`
	// Host says which programs of the host the artifact needs, and what needs them. Empty: it runs anywhere.
	Host []string `json:"host,omitempty"`
}

// Result is an artifact and how this build came to it.
type Result struct {
	Artifact
	Key      string        `json:"key"`    // hash of everything that went in
	Reused   bool          `json:"reused"` // nothing ran: Artifact.Delivery built it of the same inputs
	Took     time.Duration `json:"took"`
	Commands []Command     `json:"commands,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
}

// Command is one command that ran.
type Command struct {
	Purpose string        `json:"purpose"` // lint or build
	Run     string        `json:"run"`
	Took    time.Duration `json:"took"`
	Exit    int           `json:"exit"`             // its exit code; -1 when it was ended, or could not start
	Failed  string        `json:"failed,omitempty"` // why; "" when it succeeded
	First   string        `json:"first,omitempty"`  // the first line that it said, when it failed
}

// Records remembers artifacts by the hash of their inputs. Save of a key replaces what was there.
type Records interface {
	Find(ctx context.Context, key string) (Artifact, bool, error)
	Save(ctx context.Context, key string, a Artifact) error
}

// Builder builds. One build at a time may use a Dir.
type Builder struct {
	Runner command.Runner
	// Linter returns what runs linters in a checkout of their own that none of them can change. It is asked once, before
	// anything runs, and only when something is linted. Nil, or a nil runner: they share the checkout with run, and what they
	// change of it is found afterwards.
	Linter  func(ctx context.Context) (command.Runner, error)
	Store   *registry.Store
	Records Records // nil: nothing is reused
}

// Key returns the hash of everything that goes into a build: the same key means the same artifact. Env is part of it, so it
// must have nothing that differs from run to run.
func (r Request) Key() string {
	body, err := json.Marshal(struct {
		Version                                          int
		App, Commit, Tree, Dir, Run                      string
		Tracked, Lint, Files, Cache, Roles, Env, Toolset []string
	}{1, r.App, r.Commit, r.Tree, r.Dir, r.Run, r.Tracked, r.Lint, r.Files, r.Cache, r.Roles, r.Env, r.Toolchain})
	if err != nil {
		panic(err) // strings always encode
	}
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:])
}

// root is where the files are read.
func (r Request) root() string { return cmp.Or(r.Root, r.Dir) }

// Build runs the commands, packs the files and stores the image, tagged with the commit; or finds that it did so before.
// A failing command is a domain.Failed error; Result then still has the commands.
func (b *Builder) Build(ctx context.Context, r Request) (Result, error) {
	began := time.Now()
	result := Result{Key: r.Key()}
	log := &lines{w: r.Log}
	if r.Log == nil {
		log.w = io.Discard
	}
	if a, ok := b.reuse(ctx, r, result.Key, log); ok {
		result.Artifact, result.Reused, result.Took = a, true, time.Since(began)
		return result, nil
	}
	if err := b.Store.Guard(0); err != nil {
		return result, err
	}
	if err := b.commands(ctx, r, &result, log); err != nil {
		result.Took = time.Since(began)
		return result, err
	}
	if err := b.pack(ctx, r, &result); err != nil {
		result.Took = time.Since(began)
		return result, err
	}
	result.Took = time.Since(began)
	if b.Records == nil {
		return result, nil
	}
	return result, b.Records.Save(ctx, result.Key, result.Artifact)
}

// Prepare runs build.run alone, in a checkout that Build left untouched because it reused the artifact: tests need what the
// commands leave in the folder, too. Nothing is packed.
func (b *Builder) Prepare(ctx context.Context, r Request) ([]Command, error) {
	if r.Run == "" {
		return nil, nil
	}
	r.Lint = nil
	log := &lines{w: r.Log}
	if r.Log == nil {
		log.w = io.Discard
	}
	var result Result
	err := b.parallel(ctx, r, b.Runner, &result, log)
	return result.Commands, err
}

// reuse finds an artifact of the same inputs that is still whole.
func (b *Builder) reuse(ctx context.Context, r Request, key string, log *lines) (Artifact, bool) {
	if b.Records == nil {
		return Artifact{}, false
	}
	a, ok, err := b.Records.Find(ctx, key)
	if err != nil || !ok || a.App != r.App || a.Commit != r.Commit {
		return Artifact{}, false
	}
	if err := b.Store.Verify(ctx, a.Digest); err != nil {
		log.say("build", fmt.Sprintf("built again: %s", err))
		return Artifact{}, false
	}
	who := fmt.Sprintf("delivery #%d", a.Delivery)
	if a.Delivery == 0 {
		who = "a run before the merge"
	}
	log.say("build", fmt.Sprintf("reused: %s built %s of the same inputs", who, a.Digest))
	return a, true
}
