package web_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belay-cd/belay/internal/web"
)

// TestCaller is no test: it is a process that a test starts, which says that a login began it and asks.
func TestCaller(t *testing.T) {
	socket := os.Getenv("BELAY_TEST_SOCKET")
	if socket == "" {
		t.Skip("it is started by other tests")
	}
	if login := os.Getenv("BELAY_TEST_LOGIN"); login != "" {
		if err := os.WriteFile("/proc/self/loginuid", []byte(login), 0); err != nil {
			fmt.Println("answer: no logins here")
			return
		}
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	r, err := client.Post("http://belay/v1/apps/shop/deliveries/2/"+os.Getenv("BELAY_TEST_VERB"), "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Printf("answer: %d %s\n", r.StatusCode, body)
}

// Sudo changes the user of a process, and not who logged in: it makes no second person.
func TestSudoMakesNoSecondPerson(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can begin processes of other users")
	}
	const daemon, bin = 1, 2 // users that every machine has
	r := start(t, nil)
	if err := os.Chmod(r.socket, 0o666); err != nil { //nolint:gosec // other users are to come in
		t.Fatal(err)
	}
	for dir := filepath.Dir(r.socket); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // other users are to come in
			t.Fatal(err)
		}
	}
	binary := filepath.Join(filepath.Dir(r.socket), "caller")
	if err := os.Link(os.Args[0], binary); err != nil {
		data, err := os.ReadFile(os.Args[0])
		if err == nil {
			err = os.WriteFile(binary, data, 0o755) //nolint:gosec // other users are to run it
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Chmod(binary, 0o755) //nolint:gosec // other users are to run it
	for _, c := range []struct {
		name        string
		uid         uint32
		login, verb string
		want, asked string
	}{
		{"a user", daemon, "", "approve", "200", "approve shop 2 daemon"},
		{"a user who logged in", daemon, "1", "approve", "200", "approve shop 2 daemon"},
		{"root by sudo", 0, "2", "approve", "200", "approve shop 2 bin"},
		{"another user by sudo", daemon, "2", "approve", "it runs as daemon, and was begun by the login of bin", ""},
		{"a no is anybody's", daemon, "2", "reject", "", "reject shop 2 daemon"},
	} {
		cmd := exec.Command(binary, "-test.run=^TestCaller$", "-test.v")
		cmd.Env = []string{"BELAY_TEST_SOCKET=" + r.socket, "BELAY_TEST_LOGIN=" + c.login, "BELAY_TEST_VERB=" + c.verb}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid}}
		before := len(r.all())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, out)
		}
		if strings.Contains(string(out), "no logins here") {
			t.Skip("this kernel keeps no logins")
		}
		asked := strings.Join(r.all()[before:], "\n")
		if !strings.Contains(string(out), c.want) || !strings.HasPrefix(asked, c.asked) || c.asked == "" && asked != "" {
			t.Errorf("%s: asked %q, want %q:\n%s", c.name, asked, c.asked, out)
		}
	}
}

// Where logins are kept, a caller whose process is gone may be anybody.
func TestTheCallersProcessIsGone(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "self"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(proc, "self", "loginuid"), []byte("4294967295"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, func(o *web.Options) { o.Proc = proc })
	status, answer, _ := r.local(t, "POST", "/v1/apps/shop/deliveries/2/approve", `{}`)
	if status != 403 || !strings.Contains(answer, "who asks is not known: its process is gone") || r.last() != "" {
		t.Errorf("%d %s, asked %q", status, answer, r.last())
	}
}
