//go:build race

package lab

// raced says that the race detector is on: what plays thousands of rollouts takes ten times as long then, and has nothing for it
// to find.
const raced = true
