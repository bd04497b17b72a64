//go:build !race

package delivery

// stride: without the race detector nothing is left out.
const stride = 1
