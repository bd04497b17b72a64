//go:build torture

package suite_test

// packages is how many TestThousandsOfTests links, with `make torture`.
const packages = 40
