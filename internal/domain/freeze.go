package domain

// Frozen is what a freeze met when it was set.
type Frozen struct {
	Freeze Freeze `json:"freeze"`
	// Replaced is the freeze of the same reach that it took the place of.
	Replaced *Freeze `json:"replaced,omitempty"`
	// Beside are the freezes of another reach that hold, too: of single apps, or of the whole server.
	Beside []Freeze `json:"beside,omitempty"`
	// Waits are the deliveries that wait before production because of it, Keeps those that keep their weight: payments #87.
	Waits []string `json:"waits,omitempty"`
	Keeps []string `json:"keeps,omitempty"`
}
