package domain

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 90 * time.Minute: "1h30m", 15 * time.Minute: "15m", 20 * time.Second: "20s", 0: "0s",
		10 * time.Minute: "10m", 10 * time.Hour: "10h", 30 * time.Second: "30s", time.Hour + 20*time.Second: "1h0m20s",
	} {
		if got := Span(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1650204: "1,650,204"} {
		if got := Thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// TestSecretStaysHidden prints a secret in every way there is.
func TestSecretStaysHidden(t *testing.T) {
	s := NewSecret("hunter2")
	text, err := json.Marshal(map[string]any{"a": s, "b": []Secret{s}})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %v %s", s, s, s, s, s, struct{ S Secret }{s}, text)
	if strings.Contains(all, "hunter2") {
		t.Errorf("it shows: %s", all)
	}
	if s.Reveal() != "hunter2" {
		t.Error("Reveal does not")
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("no route")
	err := fmt.Errorf("ship: %w", Errorf(Refused, "held: %w", cause).WithHint("belay thaw"))
	if CodeOf(err) != Refused || HintOf(err) != "belay thaw" || !errors.Is(err, cause) || CodeOf(err).Exit() != 12 {
		t.Errorf("%v: code %s, hint %q", err, CodeOf(err), HintOf(err))
	}
	if CodeOf(cause) != Failed || HintOf(cause) != "" || Failed.Exit() != 1 || Invalid.Exit() != 2 || RolledBack.Exit() != 11 {
		t.Error("codes of plain errors, or exit codes, are wrong")
	}
}

// TestIDsSort: ids made later sort behind, and none comes twice.
func TestIDsSort(t *testing.T) {
	var ids []string
	for range 1000 {
		ids = append(ids, NewID("rel_"))
	}
	if !slices.IsSortedFunc(ids, func(a, b string) int { return strings.Compare(a[:14], b[:14]) }) || len(slices.Compact(ids)) != 1000 || len(ids[0]) != len("rel_")+26 {
		t.Errorf("%v", ids)
	}
}

// A rollback restored the image and not the configuration: a release is all of it.
func TestScar_mortise_215(t *testing.T) {
	r := Release{Digest: "sha256:a", Config: "sha256:b", Secrets: map[string]int{"KEY": 1}}
	for name, o := range map[string]Release{
		"artifact":       {Digest: "sha256:x", Config: "sha256:b", Secrets: map[string]int{"KEY": 1}},
		"configuration":  {Digest: "sha256:a", Config: "sha256:x", Secrets: map[string]int{"KEY": 1}},
		"secret version": {Digest: "sha256:a", Config: "sha256:b", Secrets: map[string]int{"KEY": 2}},
		"another secret": {Digest: "sha256:a", Config: "sha256:b", Secrets: map[string]int{"OTHER": 1}},
	} {
		if r.Same(o) {
			t.Errorf("the same in spite of another %s", name)
		}
	}
	if !r.Same(r) {
		t.Error("not the same as itself")
	}
}
