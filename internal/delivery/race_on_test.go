//go:build race

package delivery

// stride: under the race detector each of these takes ten times as long, and every ninth is enough to find a race.
const stride = 9
