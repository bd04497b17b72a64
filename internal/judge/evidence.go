package judge

// Judge is the evidence on one rollout. It is not safe for concurrent use.
type Judge struct{ config Config }

// New begins without any evidence.
func New(c Config) *Judge { return &Judge{config: c} }

// Resume goes on where Checkpoint was called, bit for bit. A checkpoint of another configuration is an error.
func Resume(c Config, checkpoint []byte) (*Judge, error) { return New(c), nil }

// Checkpoint returns all that the judge knows, in at most a few tens of kilobytes.
func (j *Judge) Checkpoint() ([]byte, error) { return nil, nil }

// Tick adds what one proxy counted in one second. It reports false for a tick that came already or is older than one of the
// same proxy that came: such a tick changes nothing.
func (j *Judge) Tick(t Tick) bool { return true }

// Verdict says what the ticks so far prove.
func (j *Judge) Verdict() Verdict { return Verdict{Decision: NoData} }

// Hash names a configuration: the same settings have the same hash.
func (c Config) Hash() string { return "" }
