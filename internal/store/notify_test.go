package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

var noticeAt = time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)

func notice(id string, seq int64, kind domain.NoticeKind) domain.Notice {
	return domain.Notice{ID: id, App: "shop", Channel: "oncall", Delivery: 7, Kind: kind, State: domain.NoticePending, Created: noticeAt, Next: noticeAt,
		Event: domain.Event{Seq: seq}, Sentence: "held: " + id}
}

func pendingIDs(t *testing.T, list []domain.Notice) string {
	t.Helper()
	text := ""
	for _, n := range list {
		text += n.ID + " "
	}
	return text
}

// The cursor and the messages are stored together, and a message that is known changes nothing, also after it was sent.
func TestNoticesSurvive(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "belay.db")
	s := open(t, path)
	if _, known, err := s.NoticeCursor(ctx); known || err != nil {
		t.Fatalf("known %v, %v", known, err)
	}
	ok(t, s.AddNotices(ctx, 12, notice("ntf_a", 11, domain.NoticeHeld), notice("ntf_b", 12, domain.NoticeFailed)))
	ok(t, s.Close())
	s = open(t, path)
	if seq, known, err := s.NoticeCursor(ctx); seq != 12 || !known || err != nil {
		t.Fatalf("%d, %v, %v", seq, known, err)
	}
	list := must(s.PendingNotices(ctx, 0))(t)
	if pendingIDs(t, list) != "ntf_a ntf_b " || list[0].Sentence != "held: ntf_a" {
		t.Fatalf("%+v", list)
	}
	sent, end := list[0], noticeAt.Add(time.Second)
	sent.State, sent.Ended = domain.NoticeSent, &end
	ok(t, s.SaveNotice(ctx, sent, &domain.ChannelRecord{App: "shop", Channel: "oncall", OK: &end}))
	ok(t, s.AddNotices(ctx, 12, notice("ntf_a", 11, domain.NoticeHeld)))
	if got := pendingIDs(t, must(s.PendingNotices(ctx, 0))(t)); got != "ntf_b " {
		t.Errorf("pending: %s", got)
	}
	if last := must(s.LastNotice(ctx, sent))(t); !last.Equal(end) {
		t.Errorf("last sent %s", last)
	}
	if last := must(s.LastNotice(ctx, list[1]))(t); !last.IsZero() {
		t.Errorf("never sent, and yet at %s", last)
	}
	if records := must(s.ChannelRecords(ctx, "shop"))(t); len(records) != 1 || !records[0].OK.Equal(end) {
		t.Errorf("%+v", records)
	}
	if records := must(s.ChannelRecords(ctx, "other"))(t); len(records) != 0 {
		t.Errorf("%+v", records)
	}
}

// The last state wins: what is pending of the same channel, delivery and kind is replaced, and nothing else.
func TestANoticeReplacesWhatIsPending(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	other := notice("ntf_other", 2, domain.NoticeHeld)
	other.Delivery = 8
	ok(t, s.AddNotices(ctx, 3, notice("ntf_1", 1, domain.NoticeHeld), other, notice("ntf_failed", 3, domain.NoticeFailed)))
	ok(t, s.AddNotices(ctx, 5, notice("ntf_4", 4, domain.NoticeHeld), notice("ntf_5", 5, domain.NoticeHeld)))
	if got := pendingIDs(t, must(s.PendingNotices(ctx, 0))(t)); got != "ntf_other ntf_failed ntf_5 " {
		t.Errorf("pending: %s", got)
	}
	if must(s.NoticePending(ctx, "ntf_4"))(t) || !must(s.NoticePending(ctx, "ntf_5"))(t) {
		t.Error("which one is pending is not known")
	}
	// An attempt that failed while it was replaced does not bring it back; one that succeeded counts.
	tried := notice("ntf_4", 4, domain.NoticeHeld)
	tried.Attempts = 1
	ok(t, s.SaveNotice(ctx, tried, nil))
	if must(s.NoticePending(ctx, "ntf_4"))(t) {
		t.Error("it is pending again")
	}
	end := noticeAt.Add(time.Minute)
	tried.State, tried.Ended = domain.NoticeSent, &end
	ok(t, s.SaveNotice(ctx, tried, nil))
	if last := must(s.LastNotice(ctx, tried))(t); !last.Equal(end) {
		t.Errorf("last sent %s", last)
	}
}

// Giving up is told in the same transaction.
func TestAGivenUpNoticeIsAnEvent(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	wake, cancel := s.Subscribe()
	defer cancel()
	ok(t, s.AddNotices(ctx, 1, notice("ntf_1", 1, domain.NoticeHeld)))
	gone := notice("ntf_1", 1, domain.NoticeHeld)
	gone.State = domain.NoticeGivenUp
	ok(t, s.SaveNotice(ctx, gone, nil, domain.Event{Type: "notify.failed", App: "shop", At: noticeAt}))
	select {
	case <-wake:
	default:
		t.Error("nobody was woken")
	}
	if last := must(s.LastEvent(ctx))(t); last != 1 {
		t.Errorf("last event %d", last)
	}
	ok(t, s.PruneNotices(ctx, noticeAt))
	ok(t, s.PruneNotices(ctx, noticeAt.Add(time.Second)))
	ok(t, s.AddNotices(ctx, 1, notice("ntf_1", 1, domain.NoticeHeld)))
	if got := pendingIDs(t, must(s.PendingNotices(ctx, 0))(t)); got != "ntf_1 " {
		t.Errorf("it was not pruned: pending %s", got)
	}
}
