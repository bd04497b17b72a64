package delivery

import (
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/domain"
)

// Nobody could see why: every verdict is stored with what it rests on, is told in words, and can be judged again.
func TestScar_argo_1591(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		w.bad[sha("b")] = 0.5
		b := w.await(w.ship("b").Number)
		if b.State != domain.RolledBackState {
			t.Fatalf("b is %s", b.State)
		}
		e, err := w.life.s.Explain(t.Context(), "shop", b.Number)
		if err != nil {
			t.Fatal(err)
		}
		told := strings.Join(e.Lines, "\n")
		if !e.Replayed || !e.Same || !strings.Contains(e.Sentence, "rolled back") || !strings.Contains(told, "breach") ||
			!strings.Contains(told, "shift next 100 %") || !strings.Contains(told, "gate held") {
			t.Errorf("%+v", e)
		}
		good, err := w.life.s.Explain(t.Context(), "shop", b.Number-1)
		if err != nil || good.Replayed || !good.Same {
			t.Errorf("the good one: %+v, %v", good, err)
		}
	})
}
