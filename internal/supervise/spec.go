// Package supervise keeps one process of an app running, whatever happens to the daemon.
//
// Each instance has a folder and a shim, a small process of its own ("belay shim"). The shim starts the app's process in a
// process group and, where the kernel allows, a control group of its own, hands it a file for its output, starts it again
// with growing pauses when it ends, and says in state.json what it knows. Everything stands in files: the death of the
// daemon or of the shim does not touch the app, and a new shim adopts a process that it can prove to be the one that was
// started.
package supervise

import (
	"path/filepath"
	"time"

	"github.com/belay-cd/belay/internal/sandbox"
)

// Names of the files in the folder of an instance.
const (
	specFile  = "shim.json"
	stateFile = "state.json"
	exitFile  = "exit.json"
	lockFile  = "lock"
	stopFile  = "stop"
	// LogFile is the output of the instance, newest at the end; LogFile.1 is the one before.
	LogFile = "log"
)

// Spec is what a shim needs to keep one process running.
type Spec struct {
	Command sandbox.Spec `json:"command"`
	// Secret are variables of the command that must not lie on the disk, NAME=value. They are handed to the shim through a
	// pipe when it is launched, and it keeps them in its memory.
	Secret  []string     `json:"-"`
	Mode    sandbox.Mode `json:"mode"` // found by the daemon, so that each start need not try again
	Port    int          `json:"port,omitempty"`
	Limits  Limits       `json:"limits"`
	Group   string       `json:"group,omitempty"` // control group below that of the daemon
	Grace   Duration     `json:"grace"`           // between TERM and KILL
	Backoff Backoff      `json:"backoff"`
	Log     LogPolicy    `json:"log"`
	Once    bool         `json:"once,omitempty"` // the process is never started again: see StartOnce
}

// Backoff says how long to wait before the next start: First, doubled each time up to Longest, from the beginning again
// when the process ran at least Reset.
type Backoff struct {
	First   Duration `json:"first"`
	Longest Duration `json:"longest"`
	Reset   Duration `json:"reset"`
}

// pause returns the pause before the start after n starts in a row that did not last (n from 1).
func (b Backoff) pause(n int) time.Duration {
	d := time.Duration(b.First)
	for range n - 1 {
		d *= 2
		if d >= time.Duration(b.Longest) {
			return time.Duration(b.Longest)
		}
	}
	return d
}

// LogPolicy bounds the log: a file that grows past Size bytes is copied away and emptied, Keep files are kept in all.
type LogPolicy struct {
	Size  int64    `json:"size"`
	Keep  int      `json:"keep"`
	Every Duration `json:"every"` // how often its size is looked at
}

// Limits of a control group; 0 is none.
type Limits struct {
	Memory int64   `json:"memory,omitempty"` // bytes
	CPU    float64 `json:"cpu,omitempty"`    // cores
	PIDs   int64   `json:"pids,omitempty"`
	// Share of the processor and the disk while others want them, too, in hundredths of an ordinary group's.
	Share int `json:"share,omitempty"`
}

// Duration is a time.Duration that reads and writes as text ("1.5s").
type Duration time.Duration

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads the duration as Go does.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Phase is what a shim is doing.
type Phase string

// The phases of a shim.
const (
	Launching Phase = "launching" // of a process that runs once: it is about to be started
	Running   Phase = "running"   // the process runs
	Pausing   Phase = "pausing"   // it ended by itself, its next start comes at Until
	Ended     Phase = "ended"     // it was stopped for good, or ran once
)

// State is what a shim knows. It is written before anybody can act on it.
type State struct {
	Phase    Phase     `json:"phase"`
	Shim     Proc      `json:"shim"`
	Child    Proc      `json:"child"`
	Started  time.Time `json:"started,omitzero"` // of this child
	Restarts int       `json:"restarts"`         // starts after the first
	InARow   int       `json:"in_a_row"`         // starts in a row that did not last
	Until    time.Time `json:"until,omitzero"`   // next start, when pausing
	Last     *Exit     `json:"last,omitempty"`   // how the last process ended
	Notes    []string  `json:"notes,omitempty"`  // what the kernel did not allow
	LogFrom  int64     `json:"log_from"`         // size of the log when this child started
	// PortTaken says that somebody else listens on the port: only the daemon can choose another one.
	PortTaken bool `json:"port_taken,omitempty"`
}

// Exit is how a process ended.
type Exit struct {
	Proc   Proc      `json:"proc"`
	Code   int       `json:"code"` // -1 when a signal ended it or nobody could see
	Signal string    `json:"signal,omitempty"`
	OOM    bool      `json:"oom,omitempty"` // it used more memory than its limit
	At     time.Time `json:"at"`
	// Left is how many processes it left behind.
	Left int `json:"left,omitempty"`
	// Unseen is set when no shim lived to see the end.
	Unseen bool `json:"unseen,omitempty"`
}

// ReadState returns the last state that a shim wrote into the folder of an instance.
func ReadState(dir string) (State, error) {
	var s State
	err := ReadJSON(filepath.Join(dir, stateFile), &s)
	return s, err
}
