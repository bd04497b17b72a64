package evidence

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

var sevenStages = []domain.Stage{domain.Build, domain.Test, domain.DeployStaging, domain.VerifyStaging, domain.DeployProduction,
	domain.VerifyProduction, domain.Monitor}

func proven(t *testing.T, key *Key) domain.Evidence {
	t.Helper()
	e := domain.Evidence{App: "shop", Delivery: 7, Commit: strings.Repeat("a", 40), Digest: "sha256:" + strings.Repeat("b", 64)}
	for i, stage := range sevenStages {
		e.Envelopes = append(e.Envelopes, signedStage(t, key, e, stage, ResultPassed, i))
	}
	return e
}

func signedStage(t *testing.T, key *Key, e domain.Evidence, stage domain.Stage, result string, minute int) string {
	t.Helper()
	at := time.Date(2026, 11, 23, 14, minute, 0, 0, time.UTC)
	envelope, err := key.Sign(Stage{App: e.App, Commit: e.Commit, Delivery: e.Delivery, Stage: string(stage), Result: result,
		Began: at, Ended: at.Add(time.Second), Details: []byte(fmt.Sprintf(`{"summary":"%s is over"}`, stage))}.Statement(e.Digest))
	if err != nil {
		t.Fatal(err)
	}
	return string(envelope)
}

func TestReportOfADelivery(t *testing.T) {
	key, err := OpenKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParsePublic(key.PublicPEM())
	if err != nil || !parsed.Equal(key.Public()) {
		t.Fatalf("the public key does not survive its text: %v", err)
	}
	r := Check(proven(t, key), parsed, sevenStages)
	if !r.Complete || len(r.Refused) != 0 || r.Rows[6].Summary != "monitor is over" {
		t.Errorf("%+v", r)
	}
	other, err := OpenKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change  func(e *domain.Evidence)
		refused string
		row     string // result of verify staging
		key     ed25519.PublicKey
	}{
		"one stage is missing": {change: func(e *domain.Evidence) { e.Envelopes = append(e.Envelopes[:3:3], e.Envelopes[4:]...) }, row: "missing"},
		"a stage was red and was done again": {change: func(e *domain.Evidence) {
			e.Envelopes = append(e.Envelopes, signedStage(t, key, *e, domain.VerifyStaging, ResultFailed, 30))
		}, row: ResultFailed},
		"another commit is claimed":   {change: func(e *domain.Evidence) { e.Commit = strings.Repeat("c", 40) }, refused: "it is about shop #7 aaaaaaa", row: "missing"},
		"another delivery is claimed": {change: func(e *domain.Evidence) { e.Delivery = 8 }, refused: "it is about shop #7", row: "missing"},
		"another digest is claimed": {change: func(e *domain.Evidence) { e.Digest = "sha256:" + strings.Repeat("c", 64) },
			refused: "it is about artifact sha256:bbb", row: "missing"},
		"another app is claimed": {change: func(e *domain.Evidence) { e.App = "other" }, refused: "it is about shop", row: "missing"},
		"another key":            {change: func(*domain.Evidence) {}, refused: "altered, or signed by a key", row: "missing", key: other.Public()},
		"a forger signs with his own key": {change: func(e *domain.Evidence) {
			e.Envelopes[3] = signedStage(t, other, *e, domain.VerifyStaging, ResultPassed, 3)
		}, refused: "envelope 4: ", row: "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			e := proven(t, key)
			c.change(&e)
			with := c.key
			if with == nil {
				with = key.Public()
			}
			r := Check(e, with, sevenStages)
			if r.Complete || r.Rows[3].Result != c.row {
				t.Errorf("complete %v, verify staging %s", r.Complete, r.Rows[3].Result)
			}
			if c.refused == "" && len(r.Refused) > 0 || !strings.Contains(strings.Join(r.Refused, "\n"), c.refused) {
				t.Errorf("refused: %q", r.Refused)
			}
		})
	}
}

// One altered byte, wherever it is, and the envelope counts for nothing.
func TestEveryAlteredByteIsNoticed(t *testing.T) {
	key, err := OpenKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := proven(t, key)
	e.Envelopes = e.Envelopes[3:4]
	whole := e.Envelopes[0]
	for n := range 2 * len(whole) {
		i, flip := n/2, []byte{1, 0x20}[n%2] // the second turns letters into capitals, which JSON reads as the same names
		e.Envelopes[0] = whole[:i] + string([]byte{whole[i] ^ flip}) + whole[i+1:]
		if r := Check(e, key.Public(), sevenStages); r.Rows[3].Result != "missing" || len(r.Refused) != 1 {
			t.Fatalf("byte %d of %d: %q became %q, and %s counts as %s", i, len(whole), whole[i], whole[i]^flip, r.Rows[3].Stage, r.Rows[3].Result)
		}
	}
}
