// Package scaffold writes the first belay.yaml of a repository. It reads the checkout, says what it found and where, what
// it guessed and what is missing, and invents nothing: no test, no endpoint, no secret value.
package scaffold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// Options are what a person may say beforehand.
type Options struct {
	// App is the app's name; "" takes it from the module, the package or the folder.
	App string
	// Has reports whether a program is installed where the app is tested; nil asks this machine. It only decides which
	// program asks the probe of an app without tests.
	Has func(program string) bool
}

// Kind says how sure a line of a report is.
type Kind string

// The kinds of lines.
const (
	Found Kind = "found" // read in the checkout
	Guess Kind = "guess" // concluded, to be looked at
	Gap   Kind = "gap"   // missing, and needed or wanted
	Wrote Kind = "wrote"
	Next  Kind = "next" // what to do now
)

// Line is one line of a report. A Next line may explain its command in Note.
type Line struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
	Note string `json:"note,omitempty"`
}

// Report is what Init found and did.
type Report struct {
	Path  string `json:"path"`  // of the file, "" at the root of a repository of several apps
	Wrote bool   `json:"wrote"` // false: it was there already, or belongs into the folders of the apps
	Lines []Line `json:"lines"`
	File  []byte `json:"-"`
}

// String returns the report as it is printed, one line per fact.
func (r Report) String() string {
	if !r.Wrote && len(r.Lines) == 0 {
		return config.FileName + " is there and right: nothing changed\n"
	}
	var out strings.Builder
	var last Kind
	for _, line := range r.Lines {
		kind := string(line.Kind)
		if line.Kind == Next && last == Next {
			kind = ""
		}
		last = line.Kind
		text := fmt.Sprintf("%-8s%s", kind, line.Text)
		if line.Note != "" {
			text = fmt.Sprintf("%-54s  %s", text, line.Note)
		}
		out.WriteString(text + "\n")
	}
	return out.String()
}

// Init writes belay.yaml into dir. Where there is one already it changes nothing: a right one is reported, a wrong one is
// an error of code Invalid. At the root of a repository of several apps it names them and writes nothing. A folder that
// cannot be read, or in which nothing is recognised, is an error of code Invalid too.
func Init(dir string, o Options) (Report, error) {
	target := filepath.Join(dir, config.FileName)
	present, err := os.ReadFile(target)
	switch {
	case err == nil:
		return already(target, present)
	case !errors.Is(err, fs.ErrNotExist):
		return Report{}, domain.Errorf(domain.Invalid, "%s cannot be read: %w", target, err)
	}
	if o.Has == nil {
		o.Has = func(program string) bool { _, err := exec.LookPath(program); return err == nil }
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return Report{}, domain.Errorf(domain.Invalid, "%s cannot be read: %w", dir, err)
	}
	files, err := readTree(root)
	if err != nil {
		return Report{}, domain.Errorf(domain.Invalid, "%s cannot be read: %w", dir, err)
	}
	if apps := files.subApps(); files.several(apps) {
		return names(apps), nil
	}
	p := &project{tree: files, has: o.Has, name: o.App, folder: filepath.Base(root)}
	if err := p.survey(); err != nil {
		return Report{}, err
	}
	text := p.yaml()
	if err := right(target, []byte(text)); err != nil {
		return Report{}, fmt.Errorf("the file that would be written is not right, which is a defect: %w", err)
	}
	if err := writeNew(target, text); err != nil {
		return Report{}, domain.Errorf(domain.Failed, "%s cannot be written: %w", target, err)
	}
	p.add(Wrote, "%s (%d lines)", config.FileName, strings.Count(text, "\n"))
	p.nextSteps()
	return Report{Path: target, Wrote: true, Lines: p.lines, File: []byte(text)}, nil
}

// writeNew refuses to overwrite what came into being meanwhile, and leaves no half-written file.
func writeNew(target, text string) error {
	file, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(target))
	}
	return nil
}

func already(target string, text []byte) (Report, error) {
	if err := right(target, text); err != nil {
		return Report{}, domain.Errorf(domain.Invalid, "%s is there, and not right: %w", config.FileName, err).
			WithHint("belay check shows each place; belay init never changes a file that is there")
	}
	return Report{Path: target, File: text}, nil
}
