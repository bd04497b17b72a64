//go:build torture

package proxy

import "testing"

// TestTortureCutovers takes about ten minutes; give go test a timeout that fits.
func TestTortureCutovers(t *testing.T) { cutovers(t, 1000) }
