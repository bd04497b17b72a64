package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/evidence"
)

// What was signed is verified from a file, without any server.
func TestEvidenceIsVerifiedFromAFile(t *testing.T) {
	dir := t.TempDir()
	key, err := evidence.OpenKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	e := domain.Evidence{App: "shop", Delivery: 7, Commit: strings.Repeat("a", 40), Digest: "sha256:" + strings.Repeat("b", 64),
		State: domain.DoneState, PublicKey: string(key.PublicPEM())}
	for _, stage := range stages {
		envelope, err := key.Sign(evidence.Stage{App: e.App, Commit: e.Commit, Delivery: 7, Stage: string(stage), Result: evidence.ResultPassed, Ended: time.Unix(1795000000, 0),
			Details: []byte(`{"summary":"as it should be"}`)}.Statement(e.Digest))
		if err != nil {
			t.Fatal(err)
		}
		e.Envelopes = append(e.Envelopes, string(envelope))
	}
	public := filepath.Join(dir, "evidence.pub")
	for name, c := range map[string]struct {
		change func(e *domain.Evidence)
		code   int
		said   string
	}{
		"as it was signed":       {func(*domain.Evidence) {}, 0, "as it should be"},
		"without its last stage": {func(e *domain.Evidence) { e.Envelopes = e.Envelopes[:6] }, 1, "not signed"},
		"before it is done":      {func(e *domain.Evidence) { e.Envelopes, e.State = e.Envelopes[:6], domain.Running }, 0, "not signed"},
		"with a gap": {func(e *domain.Evidence) {
			e.Envelopes, e.State = append(e.Envelopes[:2:2], e.Envelopes[3]), domain.Running
		}, 1, "not signed"},
		"altered": {func(e *domain.Evidence) { e.Envelopes[6] = strings.Replace(e.Envelopes[6], "A", "B", 1) }, 1, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			it := e
			it.Envelopes = append([]string(nil), e.Envelopes...)
			c.change(&it)
			text, err := json.Marshal(it)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "evidence.json")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			code := Main([]string{"show", "--evidence=" + file, "--key", public}, Stdio{In: strings.NewReader(""), Out: &out, Err: &errs,
				Env: func(string) string { return "" }}, Commands{})
			if code != c.code || !strings.Contains(out.String(), c.said) {
				t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
			}
		})
	}
}
