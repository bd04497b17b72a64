package sandbox_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/sandbox"
)

// TestWatchSeesWhereACommandConnects lets real programs connect, and looks at what the kernel told.
func TestWatchSeesWhereACommandConnects(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 plays the programs that connect")
	}
	b := box(t)
	before, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = before.Close() }()
	port := before.Addr().(*net.TCPAddr).Port
	const python = `import socket,sys
def tcp(host,port):
    s=socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET); s.settimeout(0.2)
    try: s.connect((host,port))
    except OSError: pass
`
	for name, c := range map[string]struct {
		script  string
		own     []string
		outside string
	}{
		"nothing":                  {`print("quiet")`, nil, ""},
		"another machine":          {`tcp("192.0.2.7",443)`, nil, "192.0.2.7:443"},
		"another machine, IPv6":    {`tcp("2001:db8::1",443)`, nil, "[2001:db8::1]:443"},
		"mapped":                   {`tcp("::ffff:192.0.2.7",443)`, nil, "192.0.2.7:443"},
		"its own listener":         {`l=socket.socket(); l.bind(("127.0.0.1",0)); l.listen(); tcp("127.0.0.1",l.getsockname()[1])`, nil, ""},
		"a server that was there":  {fmt.Sprintf(`tcp("127.0.0.1",%d)`, port), nil, before.Addr().String()},
		"its service":              {fmt.Sprintf(`tcp("127.0.0.1",%d)`, port), []string{fmt.Sprintf("URL=postgres://u@127.0.0.1:%d/db", port)}, ""},
		"its service's plain port": {fmt.Sprintf(`tcp("127.0.0.1",%d)`, port), []string{fmt.Sprintf("PGPORT=%d", port)}, ""},
		"a name server":            {`socket.socket(type=socket.SOCK_DGRAM).sendto(b"x",("127.0.0.53",53))`, nil, "127.0.0.53:53"},
		"a message":                {`socket.socket(type=socket.SOCK_DGRAM).sendmsg([b"x"],[],0,("192.0.2.9",9999))`, nil, "192.0.2.9:9999"},
		"through a child": {`import subprocess,os
if len(sys.argv)<2: subprocess.run([sys.executable,"-c",open("/proc/self/cmdline").read().split("\0")[2],"child"])
else: tcp("192.0.2.8",80)`, nil, "192.0.2.8:80"},
		"a socket of the machine": {`s=socket.socket(socket.AF_UNIX); s.settimeout(0.2)
try: s.connect("/nowhere.sock")
except OSError: pass`, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := sandbox.Spec{Dir: "/", UID: 65534, GID: 65534, OwnPIDs: true, PrivateTmp: true, Env: []string{"PATH=" + path}}
			spec.Argv = []string{"/usr/bin/env", "python3", "-c", python + c.script}
			cmd, watcher, err := b.Watched(context.Background(), spec)
			if err != nil {
				t.Fatal(err)
			}
			watcher.Own(c.own)
			out, err := cmd.CombinedOutput()
			known, outside := watcher.Wait()
			for _, f := range cmd.ExtraFiles {
				_ = f.Close()
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got := strings.Join(outside, ", "); !known || got != c.outside {
				t.Errorf("known %v, outside %q, want %q; %s", known, got, c.outside, out)
			}
		})
	}
}

// TestWatchOfACommandThatDoesNotStart must end all the same.
func TestWatchOfACommandThatDoesNotStart(t *testing.T) {
	b := box(t)
	_, watcher, err := b.Watched(context.Background(), sandbox.Spec{Dir: "/", UID: 65534, GID: 65534, Argv: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	if known, _ := watcher.Wait(); known {
		t.Error("it knows of a command that never ran")
	}
}
