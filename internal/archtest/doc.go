// Package archtest holds the code against docs/ARCHITECTURE.md and docs/SCARS.md: who may import whom, how long things may
// get, and which test stands for which scar.
package archtest

//go:generate go test -count=1 -run TestScarsPage . -args -update
