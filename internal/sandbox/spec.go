// Package sandbox runs code of a repository (builds, tests, checks, instances) without the daemon's identity and without
// sight of the daemon's files.
//
// Two modes do this. As root, every app has one system user per purpose, and a mount namespace covers what that user
// should not even see. Without root, a user namespace with its own mounts and its own process ids covers the daemon's
// folder, sockets and processes. Probe says which one works here, by trying it.
//
// The work is done by the same binary run again as "belay sandbox": it reads its Spec from file descriptor 3, sets up the
// isolation and then executes the command, so that nothing of the app ever runs unconfined.
package sandbox

// Spec is one confined command. It holds the environment and therefore secrets: it is handed over through a file
// descriptor, never as an argument.
type Spec struct {
	Dir  string   `json:"dir"`  // working folder, as seen inside
	Argv []string `json:"argv"` // the command; Argv[0] is looked up in the PATH of Env
	Env  []string `json:"env"`  // the whole environment, NAME=value
	UID  int      `json:"uid"`  // used in mode User only
	GID  int      `json:"gid"`

	Hide []string `json:"hide,omitempty"` // folders covered by an empty one
	Bind []Bind   `json:"bind,omitempty"` // what is seen nevertheless, in this order
	// PrivateTmp gives /tmp, /var/tmp and /dev/shm of its own, in memory.
	PrivateTmp bool `json:"private_tmp,omitempty"`
	// OwnPIDs puts the command under an init of its own: when it ends, all that it started is gone. Always so in mode
	// Namespace.
	OwnPIDs bool `json:"own_pids,omitempty"`

	OOMScoreAdj int      `json:"oom_score_adj,omitempty"`
	Weight      Weight   `json:"weight,omitempty"`
	Cgroups     []string `json:"cgroups,omitempty"` // control group folders to enter
	// Memory in bytes ends a command with OwnPIDs, and all that it started, when it uses more; 0 is no limit. It stands in
	// where no control group limits memory.
	Memory  int64    `json:"memory,omitempty"`
	Rlimits []Rlimit `json:"rlimits,omitempty"`
	// Watch lets the daemon see where the command connects to; see Sandbox.Watched.
	Watch bool `json:"watch,omitempty"`
	// AllowNewPrivs keeps setuid programs working. They do not unless it is set.
	AllowNewPrivs bool `json:"allow_new_privs,omitempty"`
}

// Bind shows the file or folder From at To.
type Bind struct {
	From     string `json:"from"`
	To       string `json:"to"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Optional bool   `json:"optional,omitempty"` // left out when From does not exist
}

// Rlimit is one resource limit, by its number (RLIMIT_NOFILE…).
type Rlimit struct {
	Resource int    `json:"resource"`
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
}

// Mode says how code is kept apart from the daemon on this machine.
type Mode string

// The modes.
const (
	User      Mode = "user"      // root: a system user per app and purpose, and a mount namespace
	Namespace Mode = "namespace" // not root: user, mount and process namespaces
	None      Mode = "none"      // nothing works: the code runs with the daemon's identity
)
