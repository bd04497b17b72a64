package evidence

import (
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Row is what the evidence says of one stage.
type Row struct {
	Stage  domain.Stage `json:"stage"`
	Result string       `json:"result"` // passed, failed, or missing
	Began  time.Time    `json:"began,omitzero"`
	Ended  time.Time    `json:"ended,omitzero"`
	// Summary is the stage's line as it was shown.
	Summary string `json:"summary,omitempty"`
}

// Report is what a delivery's evidence proves.
type Report struct {
	Key      string   `json:"key"`      // id of the key that verified it
	Rows     []Row    `json:"rows"`     // one per stage, in their order
	Refused  []string `json:"refused"`  // why envelopes do not count
	Complete bool     `json:"complete"` // all seven stages passed, and nothing was refused
}

// Check verifies all evidence of a delivery with one public key, and needs nothing else. What does not verify, or is about
// another artifact, app, commit or delivery, counts for nothing and is named.
func Check(e domain.Evidence, key ed25519.PublicKey, stages []domain.Stage) Report {
	r := Report{Key: KeyID(key), Refused: []string{}}
	var known []Statement
	for i, envelope := range e.Envelopes {
		s, err := Verify([]byte(envelope), key)
		if err == nil {
			err = about(s, e)
		}
		if err != nil {
			r.Refused = append(r.Refused, ordinal(i)+err.Error())
			continue
		}
		known = append(known, s)
	}
	slices.SortStableFunc(known, func(a, b Statement) int {
		return cmp.Compare(a.Predicate.Ended.UnixNano(), b.Predicate.Ended.UnixNano())
	})
	r.Complete = len(r.Refused) == 0
	for _, stage := range stages {
		row := Row{Stage: stage, Result: "missing"}
		for _, s := range known { // the last one counts: a stage that was done again after a crash is signed again
			if p := s.Predicate; p.Stage == string(stage) {
				row = Row{Stage: stage, Result: p.Result, Began: p.Began, Ended: p.Ended, Summary: summary(p)}
			}
		}
		r.Complete = r.Complete && row.Result == ResultPassed
		r.Rows = append(r.Rows, row)
	}
	return r
}

// about refuses what was signed about something else.
func about(s Statement, e domain.Evidence) error {
	p := s.Predicate
	switch {
	case s.Digest() != e.Digest:
		return domain.Errorf(domain.Refused, "it is about artifact %s, not %s", s.Digest(), e.Digest)
	case p.App != e.App || p.Commit != e.Commit || p.Delivery != e.Delivery:
		return domain.Errorf(domain.Refused, "it is about %s #%d %s", p.App, p.Delivery, domain.ShortCommit(p.Commit))
	}
	return nil
}

func summary(s Stage) string {
	var row struct {
		Summary string `json:"summary"`
	}
	if json.Unmarshal(s.Details, &row) != nil {
		return ""
	}
	return row.Summary
}

func ordinal(i int) string { return fmt.Sprintf("envelope %d: ", i+1) }
