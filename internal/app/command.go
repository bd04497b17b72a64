package app

import (
	"context"
	"io"

	"github.com/belay-cd/belay/internal/cli"
	"github.com/belay-cd/belay/internal/demo"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/proxy"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

// Commands are the parts of the program behind the command line. A version of "" is read from the build.
func Commands(version string) cli.Commands {
	return cli.Commands{
		Version: version,
		Demo: func(ctx context.Context, out io.Writer, stay bool) error {
			return demo.Run(ctx, demo.Options{Stay: stay, Out: out})
		},
		Serve: func(ctx context.Context, o cli.ServeOptions) error {
			return Serve(ctx, Options{Data: o.Data, HTTP: o.HTTP, HTTPS: o.HTTPS, Listen: o.Listen, Certs: o.Certs, Trust: o.Trust, Demo: o.Demo, Policy: o.Policy, Group: o.Group,
				Version: o.Version, Out: o.Out, Err: o.Err})
		},
		Internal: map[string]func([]string) int{
			"proxy": proxy.Main, "shim": supervise.Main, "sandbox": sandbox.Main, "static": process.StaticMain,
			"load": demo.LoadMain,
		},
	}
}
