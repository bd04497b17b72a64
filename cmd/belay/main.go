// Command belay delivers commits of an application to production, and takes them back when they hurt users.
package main

import (
	"os"

	"github.com/belay-cd/belay/internal/app"
	"github.com/belay-cd/belay/internal/cli"
)

// version is set by the linker.
var version string

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, app.Commands(version)))
}
