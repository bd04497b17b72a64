// Package source takes commits out of git: on the side of the person who ships (resolve, refuse, bundle) and on the side
// of the daemon (accept, prove, check out). The daemon's side trusts nothing in a bundle and runs nothing out of one.
package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Commit is one commit as git knows it.
type Commit struct {
	SHA            string    `json:"sha"`  // all 40 digits
	Tree           string    `json:"tree"` // SHA of its tree
	Author         string    `json:"author"`
	AuthorEmail    string    `json:"author_email"`
	Committer      string    `json:"committer"`
	CommitterEmail string    `json:"committer_email"`
	Time           time.Time `json:"time"` // of the committer, UTC
	Subject        string    `json:"subject"`
}

// Short returns the first seven digits of the SHA.
func (c Commit) Short() string { return domain.ShortCommit(c.SHA) }

var fullSHA = regexp.MustCompile(`^[0-9a-f]{40}$`)

// ValidSHA reports whether sha is a full SHA-1 in lower case.
func ValidSHA(sha string) bool { return fullSHA.MatchString(sha) }

// git is one way of calling git: a folder, an environment, settings.
type git struct {
	dir   string
	env   []string
	flags []string
}

// user returns git as the person at the keyboard has it, minus prompts, pagers and optional locks.
func user(dir string) git {
	env := append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C", "GIT_PAGER=cat")
	return git{dir: dir, env: env, flags: []string{"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"}}
}

// hardened returns git for a repository of the daemon: no configuration but its own, no hooks, no protocols, no prompts,
// no helpers.
func hardened(repo string) git {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	return git{
		dir: "/",
		env: []string{
			"PATH=" + path, "HOME=/nonexistent", "LC_ALL=C", "GIT_DIR=" + repo,
			"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
			"GIT_NO_REPLACE_OBJECTS=1", "GIT_ALLOW_PROTOCOL=none", "GIT_ADVICE=0",
		},
		flags: []string{
			"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "safe.directory=*",
			"-c", "protocol.allow=never", "-c", "gc.auto=0", "-c", "core.protectHFS=true", "-c", "core.protectNTFS=true",
			"-c", "core.attributesFile=/dev/null", "-c", "core.autocrlf=false", "-c", "core.bigFileThreshold=16m",
			"-c", "core.symlinks=true", "-c", "core.fileMode=true", "-c", "transfer.fsckObjects=true",
			"-c", "submodule.recurse=false", "-c", "credential.helper=",
		},
	}
}

func (g git) with(env ...string) git {
	g.env = append(append([]string(nil), g.env...), env...)
	return g
}

func (g git) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append(append([]string(nil), g.flags...), args...)...)
	cmd.Dir, cmd.Env = g.dir, g.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// run calls git and returns its output. The error carries what git said.
func (g git) run(ctx context.Context, args ...string) (string, error) {
	return g.feed(ctx, nil, args...)
}

func (g git) feed(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := g.command(ctx, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &limited{w: &said, left: 16 << 10}
	if err := cmd.Run(); err != nil {
		return out.String(), g.explain(ctx, args[0], said.String(), err)
	}
	return out.String(), nil
}

func (g git) explain(ctx context.Context, verb, said string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("git %s: %w", verb, cause)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return domain.Errorf(domain.Failed, "git is not installed").WithHint("install git 2.39 or newer")
	}
	if strings.Contains(said, "not a git repository") {
		return domain.Errorf(domain.Invalid, "%s is in no git repository", g.dir).
			WithHint("git init, git add and git commit first; belay delivers commits, never folders")
	}
	if said = strings.TrimSpace(said); said != "" {
		return fmt.Errorf("git %s: %s: %w", verb, oneLine(said), err)
	}
	return fmt.Errorf("git %s: %w", verb, err)
}

// oneLine keeps the lines in which git says what is wrong, without its prefixes.
func oneLine(said string) string {
	var kept []string
	for line := range strings.SplitSeq(said, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "hint:") {
			continue
		}
		line = strings.TrimPrefix(strings.TrimPrefix(line, "fatal: "), "error: ")
		kept = append(kept, line)
		if len(kept) == 3 {
			break
		}
	}
	return strings.Join(kept, "; ")
}

// limited drops what exceeds its limit.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

const commitFormat = "--format=%H%x00%T%x00%an%x00%ae%x00%cn%x00%ce%x00%ct%x00%s"

func (g git) commit(ctx context.Context, sha string) (Commit, error) {
	out, err := g.run(ctx, "log", "-1", "--no-show-signature", commitFormat, sha, "--")
	if err != nil {
		return Commit{}, err
	}
	return parseCommit(strings.TrimSuffix(out, "\n"))
}

func parseCommit(line string) (Commit, error) {
	f := strings.SplitN(line, "\x00", 8)
	if len(f) != 8 {
		return Commit{}, fmt.Errorf("git log: unexpected output %q", line)
	}
	var seconds int64
	if _, err := fmt.Sscan(f[6], &seconds); err != nil {
		return Commit{}, fmt.Errorf("git log: unexpected time %q", f[6])
	}
	return Commit{
		SHA: f[0], Tree: f[1], Author: f[2], AuthorEmail: f[3], Committer: f[4], CommitterEmail: f[5],
		Time: time.Unix(seconds, 0).UTC(), Subject: strings.ToValidUTF8(f[7], "?"),
	}, nil
}

// unsupported says why a commit cannot be delivered although git knows it: parts of it live outside the repository.
func (g git) unsupported(ctx context.Context, sha string) error {
	list, err := g.run(ctx, "ls-tree", "-r", "-z", "--full-tree", sha)
	if err != nil {
		return err
	}
	attributes := false
	for entry := range strings.SplitSeq(list, "\x00") {
		meta, name, _ := strings.Cut(entry, "\t")
		if strings.HasPrefix(meta, "160000 ") {
			return domain.Errorf(domain.Invalid, "nothing shipped: %s is a git submodule, its files are not part of the commit", name).
				WithHint("bring the files into the repository (git subtree add --prefix=%s …), or fetch them in build.run at a fixed version", name)
		}
		attributes = attributes || name == ".gitattributes" || strings.HasSuffix(name, "/.gitattributes")
	}
	if attributes {
		return g.largeFiles(ctx, sha)
	}
	return nil
}

const lfsPointer = "version https://git-lfs.github.com/spec/v1"

func (g git) largeFiles(ctx context.Context, sha string) error {
	out, err := g.run(ctx, "grep", "-l", "-z", "-F", "-e", lfsPointer, sha, "--")
	if err != nil || out == "" {
		return nil // git grep exits 1 when nothing matches
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		name = strings.TrimPrefix(name, sha+":")
		if body, err := g.run(ctx, "cat-file", "blob", sha+":"+name); err == nil && len(body) < 1024 && strings.HasPrefix(body, lfsPointer) {
			return domain.Errorf(domain.Invalid, "nothing shipped: %s is kept in Git LFS, the commit holds a pointer only", name).
				WithHint("put the file itself into the repository, or fetch it in build.run at a fixed version")
		}
	}
	return nil
}
