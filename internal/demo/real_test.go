package demo

import (
	"os"
	"testing"
)

// With BELAY_BINARY the demo is played with the real program, as `make demo` does.
func TestDemoWithTheRealProgram(t *testing.T) {
	binary := os.Getenv("BELAY_BINARY")
	if binary == "" {
		t.Skip("BELAY_BINARY is not set; make demo does the same")
	}
	if err := Run(t.Context(), Options{Binary: binary, Load: []string{os.Args[0], "load"}, Out: os.Stderr}); err != nil {
		t.Fatal(err)
	}
}
