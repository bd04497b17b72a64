package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// A build, a test and an instance of a real delivery each try to reach the daemon: its folder, its sockets, its API, its
// process, and other apps. None works, and each did try.
func TestRepositoryCodeHasNoWayIn(t *testing.T) {
	w := newWorld(t, "1s", "")
	health, err := w.api1.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(health.Sandbox, "namespaces") {
		t.Skip("nothing keeps code apart on this machine: " + health.Sandbox)
	}
	other := filepath.Join(w.data, "volumes", "other", "production", "notes", "diary")
	if err := os.MkdirAll(filepath.Dir(other), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte("of another app\n"), 0o644); err != nil { // readable on purpose
		t.Fatal(err)
	}
	w.write("aim", fmt.Sprintf("data=%s\npid=%d\napi=%s\nother=%s\n", w.data, w.serve.Process.Pid, w.api, other), 0o644)
	w.build = "./app attack build"
	d := w.deliver("adversary", "attack", domain.DoneState)
	time.Sleep(500 * time.Millisecond)
	said := map[string]string{"build": w.stageLog(d.Number, domain.Build), "test": w.stageLog(d.Number, domain.Test)}
	logs, _ := filepath.Glob(filepath.Join(w.data, "instances", appName, "*", "*", "*", "log"))
	for _, name := range logs {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		said["instance"] += string(data)
	}
	for who, text := range said {
		in, out := 0, 0
		for line := range strings.Lines(text) {
			if strings.Contains(line, "IN "+who+" ") {
				in++
				t.Errorf("a way in: %s", strings.TrimSpace(line))
			}
			if strings.Contains(line, "OUT "+who+" ") {
				out++
			}
		}
		t.Logf("%s: %d ways did not work, %d did", who, out, in)
		if out < 10 || !strings.Contains(text, "ATTACKED "+who) {
			t.Errorf("%s tried %d ways only:\n%s", who, out, text)
		}
	}
	// The same program must get in where nothing keeps it out, or all of this would prove nothing.
	free := exec.Command(binaries.app, "attack", "nobody")
	free.Dir = w.repo
	got, err := runChild(free)
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"read the store", "list the keys", "read another app's volume", "ask at belay.sock", "signal the daemon", "read /proc of the daemon: environ"} {
		if os.Geteuid() == 0 && !strings.Contains(got, "IN nobody "+way) {
			t.Errorf("outside of the walls it did not manage: %s\n%s", way, got)
		}
	}
	for line := range strings.Lines(got) { // the API wants a token of everybody
		if strings.Contains(line, "IN nobody") && strings.Contains(line, "API") {
			t.Errorf("a way in for everybody: %s", strings.TrimSpace(line))
		}
	}
}

func (w *world) stageLog(number int, stage domain.Stage) string {
	w.t.Helper()
	var text strings.Builder
	if err := w.api1.Logs(w.t.Context(), client.LogQuery{App: appName, Delivery: number, Stage: string(stage)}, &text); err != nil {
		w.t.Fatal(err)
	}
	return text.String()
}
