package domain

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// BuildSecrets stands where an environment does for the secrets that only build.run gets.
const BuildSecrets Environment = "build"

// channelPrefix begins the names of secrets that hold a channel's address.
const channelPrefix = "notify/"

// SecretPlace is where a secret of Belay's own store belongs. App "" is the whole server, for channels only; a channel has
// no environment.
type SecretPlace struct {
	App         string      `json:"app"`
	Environment Environment `json:"environment"`
	Name        string      `json:"name"`
}

// ChannelPlace is where the address of a notification channel is kept; app "" is the whole server.
func ChannelPlace(app, channel string) SecretPlace {
	return SecretPlace{App: app, Name: channelPrefix + channel}
}

// Channel returns the name of the channel whose address the place holds.
func (p SecretPlace) Channel() (string, bool) { return strings.CutPrefix(p.Name, channelPrefix) }

// String names the place as people read it: shop-api production DATABASE_URL.
func (p SecretPlace) String() string {
	words := []string{p.App, string(p.Environment), p.Name}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// Valid refuses places that nothing could ever read: names that are no variables or Belay's own, and unknown environments.
func (p SecretPlace) Valid() error {
	if channel, ok := p.Channel(); ok {
		if !channelName(channel) {
			return Errorf(Invalid, "%q is no channel", channel).WithHint("letters, digits, - and _: notify/oncall")
		}
		if p.Environment != "" {
			return Errorf(Invalid, "%s has no environment: channels are the server's", p.Name).WithHint("leave --env out")
		}
		return nil
	}
	switch {
	case p.App == "":
		return Errorf(Invalid, "secret %s belongs to no app", p.Name).WithHint("--app names it; only notify/CHANNEL is the server's")
	case !variableName(p.Name):
		return Errorf(Invalid, "%q is no name of a variable", p.Name).WithHint("capital letters, digits and _: DATABASE_URL")
	case p.Name == "PORT" || strings.HasPrefix(p.Name, "BELAY_"):
		return Errorf(Invalid, "%s is set by belay itself", p.Name).WithHint("take another name")
	case p.Environment == "":
		return Errorf(Invalid, "secret %s of which environment?", p.Name).WithHint("--env staging, production, or build for build.secrets")
	case !p.Environment.Valid() && p.Environment != BuildSecrets:
		return Errorf(Invalid, "unknown environment %q", p.Environment).WithHint("staging, production, or build for build.secrets")
	}
	return nil
}

func variableName(s string) bool {
	if s == "" || len(s) > 100 || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

func channelName(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// SecretState says what a version is good for.
type SecretState string

// The states of a version.
const (
	CurrentSecret  SecretState = "current"  // what the next release gets
	RetiringSecret SecretState = "retiring" // a release that runs or can be gone back to has it
	RetiredSecret  SecretState = "retired"  // nothing can use it any more: its value is wiped
	RevokedSecret  SecretState = "revoked"  // taken from every release: its value is wiped
)

// SecretVersion is one value that was set, without the value.
type SecretVersion struct {
	SecretPlace
	Version int         `json:"version"` // from 1
	State   SecretState `json:"state"`
	By      string      `json:"by"`
	From    string      `json:"from"` // prompt, stdin, file or rotate
	Set     time.Time   `json:"set"`
	Ended   *time.Time  `json:"ended,omitempty"` // when its value was wiped
	// Releases are those that have it; of a revoked version those that had it.
	Releases []string `json:"releases,omitempty"`
}

// SecretSet is what became of a value that was set.
type SecretSet struct {
	SecretVersion
	Unchanged bool   `json:"unchanged,omitempty"` // it is the value of the current version: nothing was stored
	InUse     int    `json:"in_use,omitempty"`    // version that the stable release has; 0: none
	Sentence  string `json:"sentence"`
}

// Rotation is a wish to replace a secret's value in what runs. It is stored before anything is done, and goes on after a
// restart.
type Rotation struct {
	ID string `json:"id"` // rot_…
	SecretPlace
	Version int       `json:"version"` // that takes over
	By      string    `json:"by"`
	Revoke  bool      `json:"revoke"`
	At      time.Time `json:"at"`
	// Commit is delivered again, as delivery Delivery; 0: it is not handed over yet.
	Commit   string `json:"commit"`
	Folder   string `json:"folder,omitempty"`
	Delivery int    `json:"delivery,omitempty"`
	Refused  string `json:"refused,omitempty"` // why it could not be handed over
	Done     bool   `json:"done"`
}

// SecretReport is all that is known about the secrets of an app, without any value.
type SecretReport struct {
	App      string          `json:"app"`
	Secrets  []SecretStatus  `json:"secrets"`
	Findings []SecretFinding `json:"findings"`
}

// SecretStatus is one secret in every environment.
type SecretStatus struct {
	Name         string           `json:"name"`
	From         string           `json:"from"` // provider: store, vault, file, env or exec
	UsedBy       []string         `json:"used_by"`
	Environments []SecretPresence `json:"environments"`
}

// In returns what is known of one environment.
func (s SecretStatus) In(env Environment) (SecretPresence, bool) {
	i := slices.IndexFunc(s.Environments, func(p SecretPresence) bool { return p.Environment == env })
	if i < 0 {
		return SecretPresence{}, false
	}
	return s.Environments[i], true
}

// SecretPresence is one secret in one environment.
type SecretPresence struct {
	Environment Environment `json:"environment"`
	State       string      `json:"state"` // set, missing, unreadable or not asked
	Version     int         `json:"version,omitempty"`
	InUse       int         `json:"in_use,omitempty"` // version of the stable release
	Since       *time.Time  `json:"since,omitempty"`
	Old         bool        `json:"old,omitempty"`
	Message     string      `json:"message,omitempty"`
}

// SecretFinding is something about an app's secrets that a person should change. It names secrets, never values.
type SecretFinding struct {
	ID          string      `json:"id"` // missing, same, unused, old, readable, weak, revoking
	Name        string      `json:"name"`
	Environment Environment `json:"environment,omitempty"`
	Message     string      `json:"message"`
	Hint        string      `json:"hint,omitempty"`
}

// SetCommand is the line that sets the secret.
func (p SecretPlace) SetCommand() string {
	if p.Environment == "" {
		return "belay secret set " + p.Name
	}
	return fmt.Sprintf("belay secret set %s --env %s", p.Name, p.Environment)
}

// RotateCommand is the line that delivers the secret's newest value.
func (p SecretPlace) RotateCommand() string {
	if p.Environment == Production {
		return "belay secret rotate " + p.Name
	}
	return fmt.Sprintf("belay secret rotate %s --env %s", p.Name, p.Environment)
}
