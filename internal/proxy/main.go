// Package proxy is the data plane: it takes the users' requests and sends each to stable or to next, as the route of its
// host and path says.
//
// It is a process of its own that survives the control plane, in two parts. A tiny holder keeps the listening sockets
// and starts the worker again at once when it dies, so that a killed worker costs only the requests in flight. The
// worker serves. A change of weight swaps one pointer to an immutable table: nothing is reloaded and no connection ends.
package proxy

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
)

// options are the flags of belay proxy.
type options struct {
	socket, table, http, https, certs, log string
	trusted                                string
	silent, worker                         bool
}

// Main runs belay proxy and returns its exit code: 0 ended on demand, 1 failed, 2 wrong usage.
func Main(args []string) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "belay proxy:", err)
		return 2
	}
	if o.worker {
		err = work(o)
	} else {
		err = hold(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "belay proxy:", err)
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("belay proxy", flag.ContinueOnError)
	f.StringVar(&o.socket, "socket", "", "unix socket of the control API")
	f.StringVar(&o.table, "table", "", "file that keeps the routes")
	f.StringVar(&o.http, "http", "", "addresses for http, separated by commas")
	f.StringVar(&o.https, "https", "", "addresses for https, separated by commas")
	f.StringVar(&o.certs, "certs", "", "folder of certificates: HOST.pem, or HOST.crt with HOST.key")
	f.StringVar(&o.log, "log", "", "log file (default: standard error)")
	f.StringVar(&o.trusted, "trusted", "", "networks whose forwarding headers are believed, separated by commas")
	f.BoolVar(&o.silent, "no-release-header", false, "do not say in the answers which release gave them")
	f.BoolVar(&o.worker, "worker", false, "serve on inherited sockets (internal)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.socket == "" || o.table == "":
		return o, errors.New("--socket and --table are needed")
	}
	_, err := o.networks()
	return o, err
}

func (o options) networks() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, n := range strings.FieldsFunc(o.trusted, func(r rune) bool { return r == ',' || r == ' ' }) {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("--trusted: %w", err)
		}
		list = append(list, p)
	}
	return list, nil
}

// logger opens the log. Its file is appended to, so that a rotation by copy and truncate works.
func (o options) logger() (*slog.Logger, *os.File, error) {
	file := os.Stderr
	if o.log != "" {
		var err error
		if file, err = os.OpenFile(o.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, nil, err
		}
	}
	return slog.New(slog.NewTextHandler(file, nil)).With("pid", os.Getpid()), file, nil
}
