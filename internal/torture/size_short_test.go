//go:build !torture

package torture

// The sizes of the ordinary run.
const (
	long     = false
	rate     = 150 // requests per second
	cutovers = 2
	kills    = 6
)
