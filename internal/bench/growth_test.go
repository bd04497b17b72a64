package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/store"
)

// What the same work costs when a thousand deliveries are stored.
func BenchmarkStored(b *testing.B) {
	w := newWorld(b)
	p := w.newProject("bench", 2, "0s")
	for range 2 {
		p.commit()
		p.belay(0, "ship")
	}
	for b.Loop() {
		few := w.asked(p)
		w.stop()
		writes, wal := w.fill(p, *stored)
		w.start(built.belay)
		many := w.asked(p)
		what := fmt.Sprintf(" with 4 → %d deliveries", *stored+4)
		for i, name := range []string{"`belay status`", "`belay show`", "`belay ship`, seven stages"} {
			figures.add(name+what, short(few[i].quantile(0.5))+" → "+short(many[i].quantile(0.5)), "")
		}
		figures.add(fmt.Sprintf("`serve` ready on a folder with %d deliveries", *stored+4), short(w.ready), "")
		figures.add("`serve` then: memory", memoryOf(w.serve.Process.Pid).String(), "")
		size, err := os.Stat(filepath.Join(w.data, "belay.db"))
		if err != nil {
			b.Fatal(err)
		}
		figures.add("the store then", fmt.Sprintf("%.1f MB, %.1f kB for each delivery", float64(size.Size())/1e6, float64(size.Size())/1e3/float64(*stored)), "")
		figures.add("one write to the store: median", short(writes.quantile(0.5)), "")
		figures.add("the same: p99, the slowest (with a checkpoint)", short(writes.quantile(0.99))+", "+short(writes.quantile(1)), "")
		figures.add("its write-ahead log, largest", fmt.Sprintf("%.1f MB", float64(wal)/1e6), "")
	}
}

// asked returns how long people wait for status, show and ship.
func (w *world) asked(p *project) [3]times {
	var s [3]times
	for range 10 {
		took, _ := p.belay(0, "status")
		s[0] = append(s[0], took)
		took, _ = p.belay(0, "show")
		s[1] = append(s[1], took)
	}
	for range 2 {
		p.commit()
		took, _ := p.belay(0, "ship")
		s[2] = append(s[2], took)
	}
	return s
}

// fill stores the newest delivery, with everything that belongs to it, again and again. Serve must not run. It returns how
// long the last writes took, on the disk of the data folder, and how large the write-ahead log became.
func (w *world) fill(p *project, n int) (times, int64) {
	w.b.Helper()
	ctx := context.Background()
	path := filepath.Join(w.data, "belay.db")
	quick := path
	if dir, err := os.MkdirTemp("/dev/shm", "belay-bench-"); err == nil { // most of it needs no disk
		defer os.RemoveAll(dir)
		quick = filepath.Join(dir, "belay.db")
		w.must(copyFile(path, quick))
	}
	s, err := store.Open(ctx, quick, nil)
	w.must(err)
	t := w.template(s, p)
	for range n - 50 {
		_, err := t.again(ctx, s)
		w.must(err)
	}
	w.must(s.Close())
	if quick != path {
		w.must(copyFile(quick, path))
	}
	s, err = store.Open(ctx, path, nil)
	w.must(err)
	var writes times
	var wal int64
	for range 50 {
		took, err := t.again(ctx, s)
		w.must(err)
		writes = append(writes, took...)
		if info, err := os.Stat(path + "-wal"); err == nil {
			wal = max(wal, info.Size())
		}
	}
	w.must(s.Close())
	return writes, wal
}

func (w *world) must(err error) {
	w.b.Helper()
	if err != nil {
		w.b.Fatal(err)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// template is a delivery and all that was stored of it.
type template struct {
	delivery domain.Delivery
	events   []domain.Event
	rollouts []domain.RolloutRecord
	releases []domain.Release
	slots    []domain.Slot
	journal  [][]store.JournalEntry
}

func (w *world) template(s *store.Store, p *project) template {
	w.b.Helper()
	ctx := context.Background()
	d, err := s.Delivery(ctx, p.name, 0)
	w.must(err)
	t := template{delivery: d}
	t.events, err = s.Events(ctx, 0, store.EventFilter{App: p.name, Delivery: d.Number}, 0)
	w.must(err)
	t.rollouts, err = s.RolloutsOf(ctx, p.name, d.Number)
	w.must(err)
	runs := []string{d.ID}
	for _, r := range t.rollouts {
		release, err := s.Release(ctx, r.Next)
		w.must(err)
		slot, err := s.Slot(ctx, p.name, r.Environment)
		w.must(err)
		t.releases, t.slots, runs = append(t.releases, release), append(t.slots, slot), append(runs, r.ID)
	}
	for _, run := range runs {
		entries, err := s.JournalOf(ctx, run)
		w.must(err)
		t.journal = append(t.journal, entries)
	}
	return t
}

// again stores all of it under new names, write by write, and returns how long each took. What runs stays as it is.
func (t template) again(ctx context.Context, s *store.Store) (took times, err error) {
	write := func(f func() error) {
		if err != nil {
			return
		}
		began := time.Now()
		err = f()
		took = append(took, time.Since(began))
	}
	d := t.delivery
	d.ID = domain.NewID("dly_")
	write(func() (err error) { d, _, err = s.CreateDelivery(ctx, d, d.ID); return err })
	runs := []string{d.ID}
	for i, r := range t.rollouts {
		release := t.releases[i]
		release.ID, release.Delivery = domain.NewID("rel_"), d.Number
		write(func() error { return s.SaveRelease(ctx, release) })
		done := r
		r.ID, r.Delivery, r.Next, r.State, r.Ended = domain.NewID("rol_"), d.Number, release.ID, domain.RolloutOpen, nil
		write(func() error { _, err := s.OpenRollout(ctx, r); return err })
		r.State, r.Ended = done.State, done.Ended
		write(func() error { return s.FinishRollout(ctx, r, t.slots[i]) })
		runs = append(runs, r.ID)
	}
	for i, run := range runs {
		for _, e := range t.journal[i] {
			write(func() error { return s.Save(ctx, run, e.Name, e.Record) })
		}
	}
	for _, e := range t.events {
		e.Delivery = d.Number
		write(func() error { _, err := s.AppendEvents(ctx, e); return err })
	}
	return took, err
}
