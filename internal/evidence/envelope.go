package evidence

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Types of the envelope's payload and of what the statement says.
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	StageType     = "https://belay-cd.dev/evidence/stage/v1"
	// MediaType is the type under which envelopes are attached to artifacts.
	MediaType = "application/vnd.dsse.envelope.v1+json"
)

// Envelope is a DSSE envelope.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an envelope.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // base64
}

// Subject names the artifact that a statement is about.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"` // sha256: hexadecimal
}

// Statement is an in-toto statement.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Stage     `json:"predicate"`
}

// Stage is what the daemon saw of one stage of a delivery.
type Stage struct {
	App      string          `json:"app"`
	Commit   string          `json:"commit"` // full SHA
	Delivery int             `json:"delivery"`
	Stage    string          `json:"stage"`  // build, test, …
	Result   string          `json:"result"` // passed or failed
	Began    time.Time       `json:"began"`
	Ended    time.Time       `json:"ended"`
	Details  json.RawMessage `json:"details,omitempty"` // the stage's own result
}

// BuildStage is the stage whose evidence admits an artifact, and ResultPassed the result that it needs.
const (
	BuildStage   = "build"
	ResultPassed = "passed"
	ResultFailed = "failed"
)

// Statement returns the statement about an artifact's digest (sha256:HEX).
func (s Stage) Statement(digest string) Statement {
	return Statement{
		Type: StatementType, PredicateType: StageType, Predicate: s,
		Subject: []Subject{{Name: s.App, Digest: map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}}},
	}
}

// Digest returns the digest that the statement is about, "" when there is not exactly one.
func (s Statement) Digest() string {
	if len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] == "" {
		return ""
	}
	return "sha256:" + s.Subject[0].Digest["sha256"]
}

// pae is DSSE's pre-authentication encoding: what is signed.
func pae(payloadType string, payload []byte) []byte {
	var b bytes.Buffer
	b.WriteString("DSSEv1 ")
	b.WriteString(strconv.Itoa(len(payloadType)))
	b.WriteByte(' ')
	b.WriteString(payloadType)
	b.WriteByte(' ')
	b.WriteString(strconv.Itoa(len(payload)))
	b.WriteByte(' ')
	b.Write(payload)
	return b.Bytes()
}

// Sign returns the signed envelope of a statement, as JSON.
func (k *Key) Sign(s Statement) ([]byte, error) {
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	sig := ed25519.Sign(k.private, pae(PayloadType, payload))
	return json.Marshal(Envelope{
		PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []Signature{{KeyID: k.id, Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
}

// Verify returns the statement of an envelope that one of the keys signed. Everything else is refused: an altered byte, an
// unknown key, another type.
func Verify(envelope []byte, keys ...ed25519.PublicKey) (Statement, error) {
	var e Envelope
	if err := strict(envelope, &e); err != nil {
		return Statement{}, domain.Errorf(domain.Refused, "the evidence is not an envelope: %w", err)
	}
	if again, err := json.Marshal(e); err != nil || !bytes.Equal(again, envelope) { // spelt otherwise it is not what was stored
		return Statement{}, domain.Errorf(domain.Refused, "the evidence was altered: it is not written as this server writes it")
	}
	if e.PayloadType != PayloadType {
		return Statement{}, domain.Errorf(domain.Refused, "the evidence has the type %q, not %s", e.PayloadType, PayloadType)
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil {
		return Statement{}, domain.Errorf(domain.Refused, "the evidence cannot be read: %w", err)
	}
	if !signed(e, payload, keys) {
		return Statement{}, domain.Errorf(domain.Refused, "the evidence was altered, or signed by a key that is not this server's")
	}
	var s Statement
	if err := strict(payload, &s); err != nil {
		return Statement{}, domain.Errorf(domain.Refused, "the evidence's statement cannot be read: %w", err)
	}
	if s.Type != StatementType || s.PredicateType != StageType {
		return Statement{}, domain.Errorf(domain.Refused, "the evidence is a %s about %s, which is not known here", s.Type, s.PredicateType)
	}
	return s, nil
}

func signed(e Envelope, payload []byte, keys []ed25519.PublicKey) bool {
	message := pae(e.PayloadType, payload)
	for _, s := range e.Signatures {
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil {
			continue
		}
		for _, key := range keys {
			if s.KeyID == KeyID(key) && ed25519.Verify(key, message, sig) {
				return true
			}
		}
	}
	return false
}

// strict decodes exactly one JSON value without unknown members.
func strict(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}
