package journal

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
)

// disk is a store in memory; broken makes it fail as one does whose caller is gone or whose disk is full.
type disk struct {
	records map[string][]byte
	full    bool
	saves   int
}

func newDisk() *disk { return &disk{records: map[string][]byte{}} }

func (d *disk) Lookup(ctx context.Context, run, name string) ([]byte, bool, error) {
	if ctx.Err() != nil {
		return nil, false, ctx.Err() // as database/sql answers, whatever the cause
	}
	raw, ok := d.records[run+"/"+name]
	return raw, ok, nil
}

func (d *disk) Save(ctx context.Context, run, name string, raw []byte) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if d.full {
		return errors.New("disk full")
	}
	d.saves++
	d.records[run+"/"+name] = raw
	return nil
}

type asked struct{ error }

func (asked) AskedBy() string { return "ana" }
func (a asked) Unwrap() error { return a.error }

func TestOutcomeIsRememberedOnce(t *testing.T) {
	d, calls := newDisk(), 0
	run := Run{Store: d, ID: "dly_1"}
	for range 3 {
		v, err := Do(t.Context(), run, "build", func(context.Context) (map[string]int, error) {
			calls++
			return map[string]int{"a": calls}, nil
		})
		if err != nil || v["a"] != 1 {
			t.Errorf("%v %v", v, err)
		}
	}
	if _, err := Do(t.Context(), Run{Store: d, ID: "dly_2"}, "build", func(context.Context) (int, error) { calls++; return 0, nil }); err != nil || calls != 2 {
		t.Errorf("%d calls, %v: another run has steps of its own", calls, err)
	}
}

func TestFailureSurvives(t *testing.T) {
	d := newDisk()
	run := Run{Store: d, ID: "dly_1"}
	cause := asked{domain.Errorf(domain.Refused, "no room for %s", "b").WithHint("a bigger machine")}
	for life := range 2 {
		err := Exec(t.Context(), run, "start", func(context.Context) error {
			if life > 0 {
				t.Error("a failed step runs again")
			}
			return cause
		})
		var f *Failure
		if !errors.As(err, &f) || f.Step != "start" || f.By != "ana" || err.Error() != "no room for b" ||
			domain.CodeOf(err) != domain.Refused || domain.HintOf(err) != "a bigger machine" {
			t.Errorf("life %d: %#v", life, err)
		}
	}
}

func TestInterruptedHasNoOutcome(t *testing.T) {
	for name, cause := range map[string]error{"suspended": ErrSuspended, "a wish": errors.New("ana wants it back")} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			run := Run{Store: d, ID: "dly_1"}
			ctx, stop := context.WithCancelCause(t.Context())
			err := Exec(ctx, run, "bake", func(ctx context.Context) error {
				stop(cause)
				return fmt.Errorf("the guard was cut off: %w", ctx.Err())
			})
			if !errors.Is(err, cause) || d.saves != 0 {
				t.Errorf("%v, %d saves", err, d.saves)
			}
			if err := Exec(ctx, run, "retire", func(context.Context) error { t.Error("runs"); return nil }); !errors.Is(err, cause) {
				t.Errorf("the next step: %v", err)
			}
			if err := Exec(t.Context(), run, "bake", func(context.Context) error { return nil }); err != nil || d.saves != 1 {
				t.Errorf("next time: %v", err)
			}
		})
	}
}

// What succeeded before the shutdown was noticed is an outcome: it is stored although the context has ended.
func TestDoneWhileSuspended(t *testing.T) {
	d := newDisk()
	run := Run{Store: d, ID: "dly_1"}
	ctx, stop := context.WithCancelCause(t.Context())
	v, err := Do(ctx, run, "build", func(context.Context) (int, error) { stop(ErrSuspended); return 7, nil })
	if err != nil || v != 7 {
		t.Errorf("%d %v", v, err)
	}
	v, err = Do(t.Context(), run, "build", func(context.Context) (int, error) { t.Error("runs again"); return 8, nil })
	if err != nil || v != 7 {
		t.Errorf("%d %v", v, err)
	}
}

// A full disk does not hide why a step failed.
func TestFullDisk(t *testing.T) {
	d := newDisk()
	d.full = true
	run := Run{Store: d, ID: "dly_1"}
	err := Exec(t.Context(), run, "bake", func(context.Context) error { return domain.Errorf(domain.RolledBack, "too many fail") })
	if domain.CodeOf(err) != domain.RolledBack {
		t.Errorf("%v", err)
	}
	if err := Exec(t.Context(), run, "bake", func(context.Context) error { return nil }); err == nil {
		t.Error("what could not be stored counts as done")
	}
}

func TestInstant(t *testing.T) {
	run := Run{Store: newDisk(), ID: "dly_1"}
	first, err := Instant(t.Context(), run, "began")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Millisecond)
	if again, err := Instant(t.Context(), run, "began"); err != nil || !again.Equal(first) {
		t.Errorf("%v %v, was %v", again, err, first)
	}
}

func TestUnreadableRecord(t *testing.T) {
	d := newDisk()
	d.records["dly_1/build"] = []byte("{")
	if err := Exec(t.Context(), Run{Store: d, ID: "dly_1"}, "build", func(context.Context) error { t.Error("runs"); return nil }); err == nil {
		t.Error("no error")
	}
}

// Straight-line code that is killed anywhere, any number of times, ends as if it had never been: each step's outcome is the
// first one that was stored, and no step runs again after that.
func TestStraightLineCodeSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fails := rapid.IntRange(0, 6).Draw(t, "failing step") // 0: none
		kills := rapid.SliceOfN(rapid.IntRange(1, 6), 0, 8).Draw(t, "kills")
		d, runs := newDisk(), map[int]int{}
		run := Run{Store: d, ID: "dly_1"}
		life := func(kill int) (last int, err error) {
			ctx, stop := context.WithCancelCause(context.Background())
			defer stop(nil)
			for i := 1; i <= 6; i++ {
				last, err = Do(ctx, run, fmt.Sprint(i), func(ctx context.Context) (int, error) {
					runs[i]++
					if i == kill {
						stop(ErrSuspended)
						return 0, ctx.Err()
					}
					if i == fails {
						return 0, domain.Errorf(domain.Invalid, "step %d", i)
					}
					return 10 * i, nil
				})
				if err != nil {
					return last, err
				}
			}
			return last, nil
		}
		for _, kill := range kills {
			if _, err := life(kill); err != nil && !errors.Is(err, ErrSuspended) && domain.CodeOf(err) != domain.Invalid {
				t.Fatalf("killed: %v", err)
			}
		}
		last, err := life(0)
		switch {
		case fails == 0 && (err != nil || last != 60):
			t.Fatalf("%d %v", last, err)
		case fails != 0 && domain.CodeOf(err) != domain.Invalid:
			t.Fatalf("step %d failed, and the end is %v", fails, err)
		}
		before := fmt.Sprint(runs)
		if _, again := life(0); fmt.Sprint(again) != fmt.Sprint(err) || fmt.Sprint(runs) != before {
			t.Fatalf("again: %v, runs %v, before %s", again, runs, before)
		}
	})
}
