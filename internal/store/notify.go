package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// NoticeCursor returns the number of the last event whose messages are stored; known is false before the first was.
func (s *Store) NoticeCursor(ctx context.Context) (seq int64, known bool, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT seq FROM notice_cursor WHERE id = 1`).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return seq, err == nil, reading(err, "the cursor of messages")
}

// AddNotices moves the cursor and stores the messages of the events up to it, all of it or nothing. A message takes the place
// of what is pending of the same channel about the same delivery and kind; one that is known already changes nothing.
func (s *Store) AddNotices(ctx context.Context, cursor int64, list ...domain.Notice) error {
	return s.write(ctx, "store messages", func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `INSERT INTO notice_cursor (id, seq) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET seq = excluded.seq`, cursor)
		if err != nil {
			return err
		}
		for _, n := range list {
			fresh, err := exec(ctx, tx, `INSERT INTO notices (id, app, channel, delivery, kind, state, seq, created, sent, document)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT DO NOTHING`,
				n.ID, n.App, n.Channel, n.Delivery, n.Kind, n.State, n.Event.Seq, n.Created.UnixMilli(), asJSON{n})
			if err != nil {
				return err
			}
			if fresh == 0 {
				continue
			}
			_, err = exec(ctx, tx, `UPDATE notices SET state = ? WHERE app = ? AND channel = ? AND delivery = ? AND kind = ? AND state = ? AND id <> ?`,
				domain.NoticeReplaced, n.App, n.Channel, n.Delivery, n.Kind, domain.NoticePending, n.ID)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// pendingOfOne is how many messages of one channel are listed at most: one that is dead leaves room for the others.
const pendingOfOne = 20

// PendingNotices lists at most limit messages that are to be sent, the first few of each channel, in the order of their events.
func (s *Store) PendingNotices(ctx context.Context, limit int) ([]domain.Notice, error) {
	list, err := documents[domain.Notice](ctx, s.readers,
		`SELECT document FROM (
			SELECT document, seq, id, ROW_NUMBER() OVER (PARTITION BY app, channel ORDER BY seq, id) AS place FROM notices WHERE state = 'pending'
		) WHERE place <= ? ORDER BY place, seq, id LIMIT ?`, pendingOfOne, limited(limit))
	return list, reading(err, "pending messages")
}

// NoticePending reports whether a message is still to be sent.
func (s *Store) NoticePending(ctx context.Context, id string) (pending bool, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM notices WHERE id = ? AND state = ?)`, id, domain.NoticePending).Scan(&pending)
	return pending, reading(err, "message "+id)
}

// LastNotice says when the channel of a message was last told of the same delivery and kind; the zero time is never.
func (s *Store) LastNotice(ctx context.Context, n domain.Notice) (time.Time, error) {
	var sent int64
	err := s.readers.QueryRowContext(ctx, `SELECT COALESCE(MAX(sent), 0) FROM notices WHERE app = ? AND channel = ? AND delivery = ? AND kind = ?`,
		n.App, n.Channel, n.Delivery, n.Kind).Scan(&sent)
	if err != nil || sent == 0 {
		return time.Time{}, reading(err, "the last message")
	}
	return time.UnixMilli(sent), nil
}

// SaveNotice stores how a message went, with the record of its channel and events about it, all of it or nothing. A message
// that was replaced while it was tried stays replaced, unless it was sent.
func (s *Store) SaveNotice(ctx context.Context, n domain.Notice, r *domain.ChannelRecord, events ...domain.Event) error {
	err := s.write(ctx, "store message "+n.ID, func(tx *sql.Tx) error {
		sent := int64(0)
		if n.State == domain.NoticeSent && n.Ended != nil {
			sent = n.Ended.UnixMilli()
		}
		_, err := exec(ctx, tx, `UPDATE notices SET state = ?, sent = ?, document = ? WHERE id = ? AND (state = ? OR ? = ?)`,
			n.State, sent, asJSON{n}, n.ID, domain.NoticePending, n.State, domain.NoticeSent)
		if err != nil {
			return err
		}
		if r != nil {
			if err := putChannelRecord(ctx, tx, *r); err != nil {
				return err
			}
		}
		if len(events) > 0 {
			_, err = appendEvents(ctx, tx, events)
		}
		return err
	})
	if err == nil && len(events) > 0 {
		s.wake()
	}
	return err
}

func putChannelRecord(ctx context.Context, tx *sql.Tx, r domain.ChannelRecord) error {
	_, err := exec(ctx, tx, `INSERT INTO channel_records (app, channel, document) VALUES (?, ?, ?)
		ON CONFLICT (app, channel) DO UPDATE SET document = excluded.document`, r.App, r.Channel, asJSON{r})
	return err
}

// SaveChannelRecord stores how the last messages of a channel went.
func (s *Store) SaveChannelRecord(ctx context.Context, r domain.ChannelRecord) error {
	return s.write(ctx, "store record of channel "+r.Channel, func(tx *sql.Tx) error { return putChannelRecord(ctx, tx, r) })
}

// ChannelRecords lists how the last messages of the channels of an app went.
func (s *Store) ChannelRecords(ctx context.Context, app string) ([]domain.ChannelRecord, error) {
	list, err := documents[domain.ChannelRecord](ctx, s.readers, `SELECT document FROM channel_records WHERE app = ? ORDER BY channel`, app)
	return list, reading(err, "records of channels")
}

// PruneNotices deletes messages that are over and were made before a moment.
func (s *Store) PruneNotices(ctx context.Context, before time.Time) error {
	return s.write(ctx, "prune messages", func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, `DELETE FROM notices WHERE created < ? AND state <> ?`, before.UnixMilli(), domain.NoticePending)
		return err
	})
}
