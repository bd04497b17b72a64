//go:build race

package proxy

// raced says that the race detector is on, which takes memory.
const raced = true
