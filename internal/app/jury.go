package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/sample"
	"github.com/belay-cd/belay/internal/store"
)

// evidenceStore keeps ticks and what judges know.
type evidenceStore interface {
	SaveCheckpoint(ctx context.Context, c store.Checkpoint) error
	LastTick(ctx context.Context, boot string) (int64, error)
	JudgeOf(ctx context.Context, rollout string) (known []byte, position int64, err error)
	EachTick(ctx context.Context, f store.TickFilter, each func(measure.Tick) error) error
}

// keeper brings what the proxy counted to the judges and to the store, each tick once and in one order. Judges hear a tick
// before it is stored, because a full or slow disk must not make them deaf; what is stored of a judge never knows a tick
// that is not stored.
type keeper struct {
	jury  *sample.Jury
	store evidenceStore
	log   *slog.Logger

	mu      sync.Mutex       // from when judges hear a tick until it is stored
	unsaved []measure.Tick   // what the store did not take yet, in order
	saved   map[string]int64 // newest stored number of each life of the proxy
	part    int              // of the judges, whose turn it is
	closed  bool
}

// checkpointEvery is over how many seconds the checkpoints of all judges are spread: one judge is stored as often. What he
// heard since is read from the stored ticks when he goes on.
const checkpointEvery = 10

// unsavedMost bounds what waits for a store that takes nothing: as many seconds as the proxy keeps.
const unsavedMost = 7200

func newKeeper(s evidenceStore, log *slog.Logger) *keeper {
	return &keeper{jury: sample.NewJury(), store: s, log: log, saved: map[string]int64{}}
}

// add takes ticks that are new, in their order.
func (k *keeper) add(ctx context.Context, fresh []measure.Tick) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || len(fresh) == 0 {
		return
	}
	k.jury.Add(fresh)
	if served(fresh) { // an idle second is worth no write
		k.await(ctx, fresh)
	}
	k.part = (k.part + 1) % checkpointEvery
	if err := k.save(ctx, k.part, checkpointEvery); err != nil && ctx.Err() == nil {
		k.log.Error("store the ticks", "error", err)
	}
}

// await puts the ticks into the line of those that are to be stored. Of a life of the proxy that the store knows from before
// a restart, only what it does not have.
func (k *keeper) await(ctx context.Context, fresh []measure.Tick) {
	for _, t := range fresh {
		last, known := k.saved[t.Boot]
		if !known {
			var err error
			if last, err = k.store.LastTick(ctx, t.Boot); err == nil {
				k.saved[t.Boot] = last
			}
		}
		if t.N > last {
			k.unsaved = append(k.unsaved, t)
		}
	}
	if over := len(k.unsaved) - unsavedMost; over > 0 {
		k.unsaved = k.unsaved[over:]
	}
}

// save stores what waits, and one part of the judges, in one transaction.
func (k *keeper) save(ctx context.Context, part, of int) error {
	judges, err := k.jury.Checkpoints(part, of)
	if err != nil {
		return err
	}
	if err := k.store.SaveCheckpoint(ctx, store.Checkpoint{Ticks: k.unsaved, Judges: judges}); err != nil {
		return err // the judges are stored again when they have heard more: until then the ticks have it
	}
	k.unsaved = nil
	return nil
}

// close stores all that is known. Nothing is stored after it.
func (k *keeper) close(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	return k.save(ctx, 0, 1)
}

// seat gives an open rollout its judge: as he was stored, with all that was counted since. One who cannot go on from there
// hears everything again, from the first tick of the rollout. A Config without Alpha asks for no judge.
func (k *keeper) seat(ctx context.Context, rec domain.RolloutRecord, c judge.Config) error {
	if c.Alpha <= 0 || rec.Ended != nil || k.jury.Seated(rec.ID) {
		return nil
	}
	k.mu.Lock() // no tick is between the judges and the store
	defer k.mu.Unlock()
	if k.jury.Seated(rec.ID) {
		return nil
	}
	known, after, err := k.store.JudgeOf(ctx, rec.ID)
	if err != nil {
		return err
	}
	if len(known) == 0 {
		after = 0
	}
	if err := k.jury.Seat(rec.ID, c, known); err != nil {
		k.log.Warn("the judge hears every tick again", "rollout", rec.ID, "error", err)
		after = 0
		if err := k.jury.Seat(rec.ID, c, nil); err != nil {
			return err
		}
	}
	err = k.store.EachTick(ctx, ofRollout(rec, after), func(t measure.Tick) error {
		k.jury.Add([]measure.Tick{t})
		return nil
	})
	if err != nil {
		k.jury.Leave(rec.ID) // half of the evidence is none
		return err
	}
	k.jury.Add(k.unsaved)
	return nil
}

func ofRollout(rec domain.RolloutRecord, after int64) store.TickFilter {
	return store.TickFilter{App: rec.App, Environment: rec.Environment, Rollout: rec.ID, After: after}
}

// errReplayed ends a replay at its last tick.
var errReplayed = errors.New("replayed")

// replay judges the stored ticks of a rollout again, up to the last one that is in stop.
func (k *keeper) replay(ctx context.Context, rec domain.RolloutRecord, c judge.Config, stop judge.Verdict) (judge.Verdict, int, error) {
	again, heard := judge.New(c), 0
	err := k.store.EachTick(ctx, ofRollout(rec, 0), func(t measure.Tick) error {
		if said, ok := sample.TickOf(&t, rec.ID); ok && again.Tick(said) {
			heard++
		}
		if t.Boot == stop.Boot && t.N == stop.N {
			return errReplayed
		}
		return nil
	})
	if err != nil && !errors.Is(err, errReplayed) {
		return judge.Verdict{}, heard, err
	}
	v := again.Verdict()
	switch {
	case err != nil && v.Ticks >= stop.Ticks:
		return v, heard, nil
	case time.Since(rec.Started) > config.KeepTicks:
		return v, heard, domain.Errorf(domain.NotFound, "the ticks of %s are gone: it began on %s, and they are kept for %d days", rec.ID,
			rec.Started.UTC().Format(time.DateOnly), config.KeepTicks/(24*time.Hour)).WithHint("those of a rollout that went back are kept for ever")
	default:
		return v, heard, domain.Errorf(domain.NotFound, "not all ticks of the verdict on %s were stored: %d were", rec.ID, heard)
	}
}
