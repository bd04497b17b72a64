package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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
// at once: it then waits in memory until the store has it, because a full or slow disk must not make them deaf. What is
// stored of a judge never knows a tick that is not stored.
type keeper struct {
	jury  *sample.Jury
	store evidenceStore
	log   *slog.Logger
	woken chan struct{} // there may be something to store

	writing chan struct{} // holds whoever writes; taken before mu
	part    int           // of the judges, whose turn it is

	mu      sync.Mutex       // what judges heard and what waits change together; never held during a write
	waiting []measure.Tick   // heard, but not known to be stored, in order
	gone    int64            // how many left waiting since the start
	stored  map[string]int64 // of each life of the proxy, the newest number that an earlier server stored
	closed  bool
}

// checkpointEvery is over how many seconds the checkpoints of all judges are spread: one judge is stored as often. What he
// heard since is read from the stored ticks when he goes on.
const checkpointEvery = 10

// waitingMost bounds what waits for a store that takes nothing: as many seconds as the proxy keeps.
const waitingMost = 7200

// batchMost bounds the ticks of one write: others write to the same disk, and a full one takes none of them.
const batchMost = 60

// Pauses between two writes.
const (
	savePause  = 900 * time.Millisecond // the next tick, a second after the one before, is stored at once
	retryPause = time.Second            // after the first failure; each further one doubles it
	retryMost  = 30 * time.Second
)

func newKeeper(s evidenceStore, log *slog.Logger) *keeper {
	return &keeper{jury: sample.NewJury(), store: s, log: log,
		woken: make(chan struct{}, 1), writing: make(chan struct{}, 1), stored: map[string]int64{}}
}

// add takes ticks that are new, in their order. It does not wait for the store.
func (k *keeper) add(fresh []measure.Tick) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || len(fresh) == 0 {
		return
	}
	k.jury.Add(fresh)
	if served(fresh) { // an idle second is worth no write
		k.waiting = append(k.waiting, fresh...)
		k.leave(k.gone + int64(len(k.waiting)-waitingMost))
	}
	k.wake()
}

func (k *keeper) wake() {
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

// leave lets go of the ticks before the nth that ever waited. Some may have left already, to keep the bound.
func (k *keeper) leave(nth int64) {
	if over := nth - k.gone; over > 0 {
		k.waiting, k.gone = k.waiting[over:], nth
	}
	if len(k.waiting) == 0 {
		k.waiting = nil // and the memory under it
	}
}

// run stores what waits until ctx ends, about once a second, and less often while the store fails.
func (k *keeper) run(ctx context.Context) {
	retry := retryPause
	for {
		select {
		case <-k.woken:
		case <-ctx.Done():
			return
		}
		pause := savePause
		if err := k.turn(ctx); err == nil {
			retry = retryPause
		} else if ctx.Err() == nil {
			pause, retry = retry, min(2*retry, retryMost)
			k.log.Error("store the ticks", "error", err, "again in", pause)
			k.wake()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// turn stores a batch, and the judges whose turn it is.
func (k *keeper) turn(ctx context.Context) error {
	k.writing <- struct{}{}
	defer func() { <-k.writing }()
	k.mu.Lock()
	closed := k.closed
	k.mu.Unlock()
	if closed {
		return nil
	}
	k.part = (k.part + 1) % checkpointEvery
	more, err := k.save(ctx, k.part, checkpointEvery)
	if more {
		k.wake()
	}
	return err
}

// save stores the first of what waits in one transaction, and with the last of it one part of the judges: they know
// nothing else. More says that others wait already, for a batch of their own.
func (k *keeper) save(ctx context.Context, part, of int) (more bool, err error) {
	if err := k.learn(ctx); err != nil {
		return false, err
	}
	c, nth, more, err := k.batch(part, of)
	if err != nil {
		return false, err
	}
	if err := k.store.SaveCheckpoint(ctx, c); err != nil {
		return false, err // the judges are stored again when they have heard more: until then the ticks have it
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leave(nth)
	return more, nil
}

// learn asks what the store has from before a restart of the lives of the proxy that it was not asked about.
func (k *keeper) learn(ctx context.Context) error {
	asked := map[string]int64{}
	k.mu.Lock()
	for _, t := range k.waiting {
		if _, known := k.stored[t.Boot]; !known {
			asked[t.Boot] = 0
		}
	}
	k.mu.Unlock()
	for boot := range asked {
		last, err := k.store.LastTick(ctx, boot)
		if err != nil {
			return err
		}
		asked[boot] = last
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.Copy(k.stored, asked)
	return nil
}

// batch is what is to be stored next, and up to which tick that ever waited it reaches.
func (k *keeper) batch(part, of int) (c store.Checkpoint, nth int64, more bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for ; n < len(k.waiting) && len(c.Ticks) < batchMost; n++ {
		if t := k.waiting[n]; t.N > k.stored[t.Boot] {
			c.Ticks = append(c.Ticks, t)
		}
	}
	if more = n < len(k.waiting); !more {
		c.Judges, err = k.jury.Checkpoints(part, of)
	}
	return c, k.gone + int64(n), more, err
}

// close stores all that is known. Nothing is stored after it.
func (k *keeper) close(ctx context.Context) error {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	select {
	case k.writing <- struct{}{}:
		defer func() { <-k.writing }()
	case <-ctx.Done():
		return fmt.Errorf("store the last ticks: %w", ctx.Err())
	}
	for {
		if more, err := k.save(ctx, 0, 1); err != nil || !more {
			return err
		}
	}
}

// seat gives an open rollout its judge: as he was stored, with all that was counted since. One who cannot go on from there
// hears everything again, from the first tick of the rollout. A Config without Alpha asks for no judge.
func (k *keeper) seat(ctx context.Context, rec domain.RolloutRecord, c judge.Config) error {
	if c.Alpha <= 0 || rec.Ended != nil || k.jury.Seated(rec.ID) {
		return nil
	}
	k.mu.Lock() // no tick is heard meanwhile, and what waits now stays until all of it is heard
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
	k.jury.Add(k.waiting) // a write may have stored some of them meanwhile: those were heard
	return nil
}

func ofRollout(rec domain.RolloutRecord, after int64) store.TickFilter {
	return store.TickFilter{App: rec.App, Environment: rec.Environment, Rollout: rec.ID, After: after}
}

// each calls see for every tick of a rollout: those that are stored, then those that wait. A tick that is stored meanwhile
// comes once.
func (k *keeper) each(ctx context.Context, rec domain.RolloutRecord, see func(measure.Tick) error) error {
	k.mu.Lock()
	waiting := slices.Clone(k.waiting) // before the store is read, so that no tick is in neither
	k.mu.Unlock()
	stored := map[string]int64{}
	err := k.store.EachTick(ctx, ofRollout(rec, 0), func(t measure.Tick) error {
		stored[t.Boot] = max(stored[t.Boot], t.N)
		return see(t)
	})
	for i := 0; i < len(waiting) && err == nil; i++ {
		if t := waiting[i]; t.N > stored[t.Boot] {
			err = see(t)
		}
	}
	return err
}

// errReplayed ends a replay at its last tick.
var errReplayed = errors.New("replayed")

// replay judges the ticks of a rollout again, up to the last one that is in stop: those that are stored, and those that wait.
func (k *keeper) replay(ctx context.Context, rec domain.RolloutRecord, c judge.Config, stop judge.Verdict) (judge.Verdict, int, error) {
	again, heard := judge.New(c), 0
	hear := func(t measure.Tick) error {
		if said, ok := sample.TickOf(&t, rec.ID); ok && again.Tick(said) {
			heard++
		}
		if t.Boot == stop.Boot && t.N == stop.N {
			return errReplayed
		}
		return nil
	}
	err := k.each(ctx, rec, hear)
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
