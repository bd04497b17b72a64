package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/evidence"
)

// askServer is the value of --evidence without a file.
const askServer = "server"

// maxEvidence bounds the file that is verified, in bytes.
const maxEvidence = 64 << 20

// verify checks the signatures here: the server's own word does not count.
func (o showOptions) verify(ctx context.Context, s *session) error {
	e, err := o.evidenceOf(ctx, s)
	if err != nil {
		return err
	}
	if s.json && o.evidence == askServer {
		return s.document(e)
	}
	key, from, err := o.publicKey(s, e)
	if err != nil {
		return err
	}
	report := evidence.Check(e, key, stages)
	if s.json {
		err = s.document(report)
	} else {
		err = s.say(s.view().evidence(e, report, from))
	}
	if err == nil && !sound(e, report) {
		err = exit(exitFailed)
	}
	return err
}

func (o showOptions) evidenceOf(ctx context.Context, s *session) (e domain.Evidence, err error) {
	if o.evidence != askServer {
		return e, readEvidence(s.file(o.evidence), &e)
	}
	c, err := s.connect()
	if err != nil {
		return e, err
	}
	defer c.Close()
	d, err := s.delivery(ctx, c, o.id)
	if err != nil {
		return e, err
	}
	return c.Evidence(ctx, d.App, d.Number)
}

func readEvidence(path string, into *domain.Evidence) error {
	info, err := os.Stat(path)
	if err != nil {
		return usage("evidence: %v", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxEvidence {
		return usage("evidence: %s is no file of at most 64 MiB", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return usage("evidence: %v", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return usage("evidence: %s: not what belay show --evidence --json prints: %v", path, err)
	}
	return nil
}

// publicKey returns the key to verify with, and where it comes from.
func (o showOptions) publicKey(s *session, e domain.Evidence) (ed25519.PublicKey, string, error) {
	if o.key == "" {
		key, err := evidence.ParsePublic([]byte(e.PublicKey))
		return key, "came with the evidence: compare it with keys/evidence.pub of the server, or give that as --key", err
	}
	text, err := os.ReadFile(s.file(o.key))
	if err != nil {
		return nil, "", usage("key: %v", err)
	}
	key, err := evidence.ParsePublic(text)
	if err != nil {
		return nil, "", usage("key: %s: %v", o.key, err)
	}
	return key, "of " + o.key, nil
}

// sound reports whether everything that should be signed is, and verifies. A delivery that is not done misses its later
// stages; a stage that is signed as red is no forgery, and is not sound either.
func sound(e domain.Evidence, r evidence.Report) bool {
	if len(r.Refused) > 0 {
		return false
	}
	gap := false
	for _, row := range r.Rows {
		switch {
		case row.Result == evidence.ResultFailed:
			return false
		case row.Result != evidence.ResultPassed:
			gap = true
		case gap: // a later stage is signed, and this one's forerunner is not
			return false
		}
	}
	return !gap || e.State != domain.DoneState
}

// evidence draws what the signatures prove, a row for each stage.
func (v view) evidence(e domain.Evidence, r evidence.Report, from string) string {
	text := fmt.Sprintf("%s #%d %s  %s\n", clean(e.App), e.Delivery, clean(domain.ShortCommit(e.Commit)), clean(e.Digest))
	for _, row := range r.Rows {
		word, when := v.paint.faint("not signed"), ""
		switch row.Result {
		case evidence.ResultPassed:
			word = v.paint.green(pad("signed", 10))
		case evidence.ResultFailed:
			word = v.paint.red(pad("red", 10))
		}
		if !row.Ended.IsZero() {
			when = "  " + row.Ended.UTC().Format("2006-01-02 15:04:05Z") + prefixed("  ", clean(row.Summary))
		}
		text += "  " + pad(string(row.Stage), nameColumn) + word + when + "\n"
	}
	for _, why := range r.Refused {
		text += "  " + v.paint.red("refused") + "  " + clean(why) + "\n"
	}
	return text + fmt.Sprintf("  key %s, %s\n", r.Key, from)
}
