package cli

import (
	"io"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// ServeOptions are the flags of belay serve.
type ServeOptions struct {
	Data   string // data folder, absolute
	HTTP   string // address of the plain traffic listener, "" for none
	HTTPS  string // address of the TLS traffic listener, "" for none
	Listen string // address of the API over TCP, "" for none; the socket is always there
	Certs  string // folder of certificate files, "" for none
	Trust  string // networks whose forwarding headers the proxy believes, separated by commas
	Demo   bool   // times below the usual bounds are accepted
	Group  string // group that may use the socket, "" for none
	Policy string // file of the server's policy; "" is DATA/policy.yaml, if it is there
	// Version of the program.
	Version string
	// Out takes the lines for people, Err everything else.
	Out, Err io.Writer
}

func serveCommand(s *session) *cobra.Command {
	o := ServeOptions{Out: s.stdio.Out, Err: s.stdio.Err}
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server of this machine", Args: atMost(0),
		Long: `serve runs the control plane: API, deliveries, guard. The proxy and the apps are processes of their own and outlive it.
A second one on the same data folder is refused.

Exit codes
  0 stopped · 1 could not start · 2 wrong flags, or the folder is in use`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.commands.Serve == nil {
				return later("serve")
			}
			for _, network := range strings.FieldsFunc(o.Trust, func(r rune) bool { return r == ',' }) {
				if _, err := netip.ParsePrefix(network); err != nil {
					return usage("--trust %s: not a network", network).WithHint("127.0.0.1/32, or 10.0.0.0/8,192.168.0.0/16")
				}
			}
			if o.HTTPS != "" && o.Certs == "" {
				return usage("--https %s: no certificates", o.HTTPS).WithHint("--certs names a folder of them")
			}
			if o.Certs != "" && o.HTTPS == "" {
				o.HTTPS = "127.0.0.1:8443"
			}
			if o.Data == "" {
				o.Data = s.dataFolder()
			}
			data, err := filepath.Abs(o.Data)
			if err != nil {
				return usage("--data: %w", err)
			}
			if o.Policy != "" {
				if o.Policy, err = filepath.Abs(o.Policy); err != nil {
					return usage("--policy: %w", err)
				}
			}
			o.Data, o.Version = data, s.version()
			return s.commands.Serve(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Data, "data", "", "data `FOLDER`; else BELAY_DATA, else /var/lib/belay (ordinary users: ~/.local/state/belay)")
	flags.StringVar(&o.HTTP, "http", "127.0.0.1:8080", "`ADDRESS` for plain traffic to the apps; :80 is open to the network")
	flags.StringVar(&o.HTTPS, "https", "", "`ADDRESS` for TLS traffic to the apps, such as :443; needs --certs")
	flags.StringVar(&o.Listen, "listen", "127.0.0.1:7070", "`ADDRESS` of the API over TCP, always with a token")
	flags.StringVar(&o.Certs, "certs", "", "`FOLDER` with certificate files; TLS then listens at --https, else at 127.0.0.1:8443")
	flags.StringVar(&o.Trust, "trust", "", "`NETWORKS` whose X-Forwarded-* and Forwarded headers are believed, such as 127.0.0.1/32 behind nginx")
	flags.StringVar(&o.Group, "group", "", "`GROUP` whose members may use the socket, to ship and to approve; else only the user that runs the server")
	flags.StringVar(&o.Policy, "policy", "", "`FILE` of what is demanded of every delivery; else DATA/policy.yaml, if it is there")
	flags.BoolVar(&o.Demo, "demo", false, "accept times below their usual bounds, for trying things out")
	return cmd
}
