//go:build !torture

package suite_test

// packages is how many TestThousandsOfTests links, in the ordinary run: two chains of four.
const packages = 8
