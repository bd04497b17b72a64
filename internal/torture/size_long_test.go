//go:build torture

package torture

// The sizes of `make torture`.
const (
	long     = true
	rate     = 300 // requests per second
	cutovers = 20
	kills    = 20
)
