package domain

import "time"

// Floors are the least that the administrator of a server demands of the deliveries of an app, whatever its file says. The
// zero value demands nothing.
type Floors struct {
	// Need is how many of From must agree before production; 0 is nobody.
	Need int      `json:"need,omitempty"`
	From []string `json:"from,omitempty"`
	// Expire is how long they may take; 0 is what the app's file says.
	Expire time.Duration `json:"expire,omitempty"`
	// Bake is the shortest hold of a step in production, Monitor the shortest Monitor.
	Bake    time.Duration `json:"bake,omitempty"`
	Monitor time.Duration `json:"monitor,omitempty"`
	// Levels must each count at least one test.
	Levels []string `json:"levels,omitempty"`
	// Branches of Remote: a commit must be reachable from one of them.
	Branches []string `json:"branches,omitempty"`
	Remote   string   `json:"remote,omitempty"`
	// File is where they are written, for messages.
	File string `json:"file,omitempty"`
}
