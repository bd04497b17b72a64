package domain

// SlowTest is one of the slowest tests of a level. Times are in seconds.
type SlowTest struct {
	Name string  `json:"name"`
	Took float64 `json:"took"`
	// Usual is the median of the runs before; 0 when it is not known.
	Usual float64 `json:"usual,omitempty"`
}
