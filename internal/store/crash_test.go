package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/store"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "write-until-killed" {
		if err := writeUntilKilled(os.Args[2]); err != nil {
			fmt.Println("error", err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes without end, from several goroutines, and says so after each acknowledged write.
func writeUntilKilled(path string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	start, err := s.LastEvent(ctx)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range 3 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("step-%d-%d-%d", start, w, i)
				if err := s.Save(ctx, "run", name, []byte(name)); err != nil {
					failed <- err
				}
				fmt.Println("journal", name)
				seq, err := s.AppendEvents(ctx, domain.Event{Type: name}, domain.Event{Type: "second"})
				if err != nil {
					failed <- err
				}
				fmt.Println("event", seq)
			}
		}()
	}
	return <-failed
}

func TestKilledInTheMiddleOfWritesLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belay.db")
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "write-until-killed", path)
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		var steps []string
		var last int64
		killAt := 5 + 17*round
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == killAt {
				ok(t, cmd.Process.Signal(syscall.SIGKILL)) // and read on: what was said was promised
			}
			kind, what, _ := strings.Cut(lines.Text(), " ")
			switch kind {
			case "journal":
				steps = append(steps, what)
			case "event":
				var seq int64
				_, err := fmt.Sscan(what, &seq)
				ok(t, err)
				last = max(last, seq)
			default:
				t.Fatal(lines.Text())
			}
		}
		_ = cmd.Wait()
		if len(steps) == 0 {
			t.Fatal("nothing was written")
		}
		check(t, path, steps, last)
	}
}

func check(t *testing.T, path string, steps []string, last int64) {
	t.Helper()
	s, err := store.Open(t.Context(), path, nil)
	ok(t, err)
	defer func() { ok(t, s.Close()) }()
	for _, name := range steps {
		record, found, err := s.Lookup(t.Context(), "run", name)
		if err != nil || !found || string(record) != name {
			t.Fatalf("acknowledged and lost: %s (%q, %v)", name, record, err)
		}
	}
	events := must(s.Events(t.Context(), 0, store.EventFilter{}, 0))(t)
	if int64(len(events)) < last {
		t.Fatalf("%d events, and %d were acknowledged", len(events), last)
	}
	for i, e := range events {
		if e.Seq != int64(i+1) {
			t.Fatalf("event %d at place %d", e.Seq, i+1)
		}
	}
	if len(events)%2 != 0 {
		t.Error("half a transaction")
	}
}

func TestADatabaseOfANewerBinaryIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belay.db")
	s := open(t, path)
	create(t, s, "shop", "")
	ok(t, s.Close())
	db, err := sql.Open("sqlite", path)
	ok(t, err)
	_, err = db.Exec(`INSERT INTO schema_version (version) VALUES (1000)`)
	ok(t, err)
	ok(t, db.Close())
	_, err = store.Open(t.Context(), path, nil)
	wantCode(t, err, domain.Invalid)
	if !strings.Contains(err.Error(), "1000") || domain.HintOf(err) == "" {
		t.Errorf("unclear: %v", err)
	}
}

func TestSomethingElseThanADatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belay.db")
	ok(t, os.WriteFile(path, []byte(strings.Repeat("this is a letter to grandmother\n", 100)), 0o600))
	if _, err := store.Open(t.Context(), path, nil); err == nil {
		t.Fatal("opened")
	}
}

// Numbers and sequences are gapless and unique, whoever asks for them at the same time.
func TestNumbersUnderConcurrency(t *testing.T) {
	s := fresh(t)
	apps := 0
	rapid.Check(t, func(rt *rapid.T) {
		apps++
		app := fmt.Sprintf("app-%d", apps)
		keys := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "a", "b", "c"}), 1, 12).Draw(rt, "keys")
		batch := rapid.IntRange(1, 4).Draw(rt, "batch")
		before := must(s.LastEvent(t.Context()))(t)
		var mu sync.Mutex
		var wg sync.WaitGroup
		byKey := map[string]map[int]bool{}
		fresh, want := map[int]bool{}, map[string]bool{}
		for i, key := range keys {
			name := key
			if key == "" {
				name = fmt.Sprint("none", i)
			}
			want[name] = true
			wg.Go(func() {
				d, created, err := s.CreateDelivery(t.Context(), domain.Delivery{App: app}, key)
				if err != nil {
					t.Error(err)
				}
				if _, err := s.AppendEvents(t.Context(), make([]domain.Event, batch)...); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if byKey[name] == nil {
					byKey[name] = map[int]bool{}
				}
				byKey[name][d.Number] = true
				if created && fresh[d.Number] {
					t.Errorf("number %d twice", d.Number)
				}
				if created {
					fresh[d.Number] = true
				}
			})
		}
		wg.Wait()
		for n := 1; n <= len(want); n++ {
			if !fresh[n] || len(fresh) != len(want) {
				rt.Fatalf("numbers %v of %d deliveries", fresh, len(want))
			}
		}
		for key, numbers := range byKey {
			if len(numbers) != 1 {
				rt.Fatalf("key %q has the deliveries %v", key, numbers)
			}
		}
		if last := must(s.LastEvent(t.Context()))(t); last != before+int64(batch*len(keys)) {
			rt.Fatalf("last event %d after %d and %d more", last, before, batch*len(keys))
		}
	})
}
