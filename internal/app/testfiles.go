package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/suite"
)

// testFiles says which files the levels of one delivery see. Without build.run these are the commit's, which git knows by
// their content, and the kept folders. With it they are what lies in the checkout when the build has ended: what a build
// makes may differ although its inputs do not. What an earlier build of the same inputs left is remembered, so that a
// reused artifact needs no checkout to be known.
type testFiles struct {
	b      *builder
	job    delivery.Job
	place  place
	commit source.Commit
	tree   []source.Entry // read once
	log    io.Writer
	record string // file with the hashes of what the build of these inputs left
	ready  bool   // the checkout holds what the build left, and nothing of a level
	begun  bool   // a level has begun: what lies in the checkout is not what it began with
	known  map[string]string
}

func (b *builder) testFiles(ctx context.Context, j delivery.Job, p place, log io.Writer) (*testFiles, error) {
	f := &testFiles{b: b, job: j, place: p, log: log, known: map[string]string{}}
	repo := repoDir(b.runner.data, j.Delivery.App)
	var err error
	if f.commit, err = source.Lookup(ctx, repo, j.Delivery.Commit); err != nil {
		return nil, err
	}
	if f.tree, err = source.Tree(ctx, repo, j.Delivery.Commit); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(p.built)
	f.ready = err == nil && string(text) == p.mark
	tracked, err := source.Files(ctx, repo, j.Delivery.Commit, j.Delivery.Folder)
	if err != nil {
		return nil, err
	}
	f.record = filepath.Join(b.runner.data, "work", j.Delivery.App, "records", request(j, p, f.commit, tracked, log).Key()+".files")
	return f, f.remember(ctx)
}

// hash returns the hash of the files that a level with these inputs sees.
func (f *testFiles) hash(ctx context.Context, inputs []string) (string, error) {
	name := suite.Mix(inputs...)
	if sum, ok := f.known[name]; ok {
		return sum, nil
	}
	sum, err := f.files(ctx, inputs)
	if err != nil {
		return "", err
	}
	kept, err := f.kept(ctx, inputs)
	return suite.Mix(sum, kept), err
}

// files is the hash of all but the kept folders.
func (f *testFiles) files(ctx context.Context, inputs []string) (string, error) {
	if f.job.File.Build.Run.Zero() {
		return f.tracked(ctx, inputs)
	}
	if f.ready && !f.begun {
		match := suite.Matcher(f.job.Delivery.Folder, inputs)
		kept := kept(f.job.Delivery, f.job.File)
		return f.b.memo.Folder(ctx, f.place.Checkout(), func(name string) bool {
			return !inAny(name, kept) && (match == nil || match(name))
		})
	}
	records, err := readRecord(f.record)
	if err != nil {
		return "", err
	}
	sum, ok := records[suite.Mix(inputs...)]
	if !ok {
		return "", suite.ErrUnprepared
	}
	return sum, nil
}

// tracked is the hash of the commit's files. Links that lead out of the repository count with what is there.
func (f *testFiles) tracked(ctx context.Context, inputs []string) (string, error) {
	match := suite.Matcher(f.job.Delivery.Folder, inputs)
	var lines []string
	for _, e := range f.tree {
		if match != nil && !match(e.Path) {
			continue
		}
		line := e.Mode + " " + e.SHA + " " + e.Path
		if e.Link != "" && (path.IsAbs(e.Link) || strings.HasPrefix(path.Join(path.Dir(e.Path), e.Link), "..")) {
			behind, err := f.b.memo.Behind(ctx, f.place.Checkout(), target(f.place.Checkout(), e), false)
			if err != nil {
				return "", err
			}
			line += " " + behind
		}
		lines = append(lines, line)
	}
	return suite.Mix(lines...), nil
}

// target is where a link of a checkout leads.
func target(top string, e source.Entry) string {
	if path.IsAbs(e.Link) {
		return e.Link
	}
	return filepath.Join(top, path.Dir(e.Path), e.Link)
}

// kept is the hash of the folders that outlive builds, as they are now: other commits wrote there, too.
func (f *testFiles) kept(ctx context.Context, inputs []string) (string, error) {
	match := suite.Matcher(f.job.Delivery.Folder, inputs)
	var sums []string
	for _, name := range kept(f.job.Delivery, f.job.File) {
		var inside func(string) bool
		if match != nil {
			inside = func(rest string) bool { return match(path.Join(name, rest)) }
		}
		sum, err := f.b.memo.Folder(ctx, filepath.Join(f.place.Checkout(), name), inside)
		if err != nil {
			return "", err
		}
		sums = append(sums, name, sum)
	}
	return suite.Mix(sums...), nil
}

func inAny(name string, folders []string) bool {
	for _, folder := range folders {
		folder = path.Clean(folder)
		if name == folder || strings.HasPrefix(name, folder+"/") {
			return true
		}
	}
	return false
}

// remember computes the hashes of all levels while the checkout is as the build left it, and stores them with the build.
func (f *testFiles) remember(ctx context.Context) error {
	if !f.ready || f.begun {
		return nil
	}
	records, err := readRecord(f.record)
	if err != nil {
		return err
	}
	known := map[string]string{}
	for _, level := range levelsOf(f.job.File) {
		name := suite.Mix(level.Inputs...)
		if records[name], err = f.files(ctx, level.Inputs); err != nil {
			return fmt.Errorf("hash what the build left: %w", err)
		}
		kept, err := f.kept(ctx, level.Inputs)
		if err != nil {
			return err
		}
		known[name] = suite.Mix(records[name], kept)
	}
	f.known = known
	if f.job.File.Build.Run.Zero() {
		return nil
	}
	return writeRecord(f.record, records)
}

// prepare makes the checkout ready for a level that really runs. It is then no longer what a build left.
func (f *testFiles) prepare(ctx context.Context) error {
	if err := f.b.prepare(ctx, f.job, f.place, f.log); err != nil {
		return err
	}
	f.ready = true
	if err := f.remember(ctx); err != nil {
		return err
	}
	f.begun = true
	if err := os.Remove(f.place.built); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readRecord reads hashes by what they are of; none when there is no such file, or it cannot be read.
func readRecord(name string) (map[string]string, error) {
	records := map[string]string{}
	body, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return records, nil
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(body, &records) != nil || records == nil {
		records = map[string]string{} // torn: the worst is a run too many
	}
	return records, nil
}

func writeRecord(name string, records map[string]string) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	body, err := json.Marshal(records)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".files-*")
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// prepare makes sure that the checkout holds what the build of this commit left in it. A reused artifact, another delivery
// in between, or tests that ran in it mean that it does not.
func (b *builder) prepare(ctx context.Context, j delivery.Job, p place, log io.Writer) error {
	if text, err := os.ReadFile(p.built); err == nil && string(text) == p.mark {
		return nil
	}
	commit, tracked, err := b.checkout(ctx, j.Delivery, j.File, p)
	if err != nil || j.File.Build.Run.Zero() {
		return err
	}
	_, _ = fmt.Fprintln(log, "the artifact is reused; build.run prepares the tests only")
	req := request(j, p, commit, tracked, log)
	if err := b.confide(ctx, j, &req); err != nil {
		return err
	}
	if _, err := b.builder(p, j.Delivery.App).Prepare(ctx, req); err != nil {
		return err
	}
	return os.WriteFile(p.built, []byte(p.mark), 0o600)
}
