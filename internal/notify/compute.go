package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// told says which events become messages of which kind.
var told = map[string]domain.NoticeKind{
	"delivery.started":     domain.NoticeStarted,
	"gate.waiting":         domain.NoticeWaiting,
	"rollout.held":         domain.NoticeHeld,
	"rollout.resumed":      domain.NoticeHeld, // the hold is over: the last state wins
	"rollout.rolled_back":  domain.NoticeRolledBack,
	"delivery.rolled_back": domain.NoticeRolledBack,
	"delivery.failed":      domain.NoticeFailed,
	"delivery.expired":     domain.NoticeFailed,
	"delivery.rejected":    domain.NoticeFailed,
	"delivery.done":        domain.NoticeDone,
	"rollout.page":         domain.NoticePage,
}

// pages are the events of the file whose channels are called when a person is needed.
var pages = []string{string(domain.NoticeFailed), string(domain.NoticeHeld)}

const (
	batch = 200
	// idle is how many events may pass without a message before the cursor is stored.
	idle = 1000
)

// compute turns the events behind the cursor into messages. A server that has no cursor yet begins with what comes next.
func (n *Notifier) compute(ctx context.Context) error {
	if n.cursor == 0 {
		if err := n.begin(ctx); err != nil {
			return err
		}
	}
	for {
		last, err := n.Store.LastEvent(ctx)
		if err != nil || last <= n.cursor {
			return err
		}
		events, err := n.Store.EventsOf(ctx, n.cursor, slices.Sorted(maps.Keys(told)), batch)
		if err != nil {
			return err
		}
		full := len(events) == batch
		if full {
			last = events[batch-1].Seq
		}
		var list []domain.Notice
		for _, e := range events {
			if e.Seq > last {
				break
			}
			made, err := n.messages(ctx, e)
			if err != nil {
				return err
			}
			list = append(list, made...)
		}
		if len(list) > 0 || last-n.saved >= idle {
			if err := n.Store.AddNotices(ctx, last, list...); err != nil {
				return err
			}
			n.saved = last
		}
		n.cursor = last
		if !full {
			return nil
		}
	}
}

func (n *Notifier) begin(ctx context.Context) error {
	seq, known, err := n.Store.NoticeCursor(ctx)
	if err == nil && !known {
		if seq, err = n.Store.LastEvent(ctx); err == nil {
			err = n.Store.AddNotices(ctx, seq)
		}
	}
	if err == nil {
		n.cursor, n.saved = seq, seq
	}
	return err
}

// messages are what one event means to the channels of its delivery.
func (n *Notifier) messages(ctx context.Context, e domain.Event) ([]domain.Notice, error) {
	kind := told[e.Type]
	if e.App == "" || quiet(e) {
		return nil, nil
	}
	listening, err := n.Deliveries.Listening(ctx, e.App, e.Delivery)
	if err != nil {
		return nil, n.known(e, err)
	}
	if len(listening) == 0 {
		return nil, nil
	}
	var d domain.Delivery
	if e.Delivery != 0 {
		if d, err = n.Deliveries.Delivery(ctx, e.App, e.Delivery); err != nil {
			return nil, n.known(e, err)
		}
	}
	now := n.Now().UTC()
	var list []domain.Notice
	for _, channel := range slices.Sorted(maps.Keys(listening)) {
		if !hears(listening[channel], kind) {
			continue
		}
		list = append(list, domain.Notice{
			ID: id(e, channel), App: e.App, Channel: channel, Kind: kind, Delivery: e.Delivery, Environment: e.Environment,
			Sentence: sentence(kind, e, d), URL: d.URL, Event: e, State: domain.NoticePending, Created: now, Next: now,
			Facts: domain.NoticeFacts{
				Commit: d.Commit, Subject: d.Subject, Author: d.Author, ShippedBy: d.ShippedBy, State: d.State, Digest: d.Digest,
			},
		})
	}
	return list, nil
}

// known passes on what may go away by itself. What is not there, or cannot be read by this version, has no messages.
func (n *Notifier) known(e domain.Event, err error) error {
	if domain.CodeOf(err) == domain.NotFound || domain.CodeOf(err) == domain.Invalid {
		n.Log.Error("nobody is told about an event", "type", e.Type, "app", e.App, "delivery", e.Delivery, "error", err)
		return nil
	}
	return err
}

// quiet leaves out what another event tells: the end of a delivery that was rolled back, and waits that are Belay's own.
func quiet(e domain.Event) bool {
	switch e.Type {
	case "rollout.rolled_back":
		return e.Delivery != 0 // the delivery's own end follows
	case "gate.waiting":
		return e.Data["owner"] == "belay"
	}
	return false
}

func hears(events []string, kind domain.NoticeKind) bool {
	if kind == domain.NoticePage {
		return slices.ContainsFunc(pages, func(p string) bool { return slices.Contains(events, p) })
	}
	return slices.Contains(events, string(kind))
}

// id is the same for the same event and channel, on this server only.
func id(e domain.Event, channel string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%d", e.App, channel, e.Seq, e.At.UnixNano()))
	return "ntf_" + hex.EncodeToString(sum[:13])
}

// maxSentence bounds what is told in one message, in bytes.
const maxSentence = 1000

// sentence says what happened, beginning with its kind.
func sentence(kind domain.NoticeKind, e domain.Event, d domain.Delivery) string {
	text := func(key string) string { s, _ := e.Data[key].(string); return s }
	said := text("sentence")
	switch kind {
	case domain.NoticeStarted:
		said = fmt.Sprintf("started: %s ships %s %q", e.By, domain.ShortCommit(d.Commit), d.Subject)
		if d.Urgent != "" {
			said += ", urgent: " + d.Urgent
		}
	case domain.NoticeWaiting:
		said = "waits: " + text("reason") + " · " + text("owner")
		if at, err := time.Parse(time.RFC3339Nano, text("deadline")); err == nil {
			said += " · until " + at.UTC().Format("2 Jan 15:04 UTC")
		}
	case domain.NoticePage:
		said = begin(said, "a person is needed")
	case domain.NoticeFailed:
		said = begin(said, strings.TrimPrefix(e.Type, "delivery."))
	default:
		word := strings.ReplaceAll(string(kind), "_", " ")
		if kind == domain.NoticeRolledBack && e.Delivery == 0 && e.By != "" {
			word += " by " + e.By // nothing else says who
		}
		said = begin(said, word)
	}
	if e.Environment == domain.Staging {
		said = "(staging) " + said
	}
	if len(said) > maxSentence {
		said = strings.ToValidUTF8(said[:maxSentence], "") + "…"
	}
	return said
}

// begin puts the word before a sentence that does not begin with it.
func begin(sentence, word string) string {
	switch {
	case sentence == "":
		return word
	case strings.HasPrefix(sentence, word):
		return sentence
	}
	return word + ": " + sentence
}
