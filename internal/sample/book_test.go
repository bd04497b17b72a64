package sample

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

func TestBookKeepsTotalsAndHandsOnWholeTicks(t *testing.T) {
	series := func(endpoint, segment string, requests int64) measure.Series {
		return measure.Series{App: "shop", Environment: domain.Production, Release: "rel_a", Endpoint: endpoint, Segment: segment, Requests: requests}
	}
	at := time.Now()
	tick := measure.Tick{Boot: "boot", N: 1, At: at, Series: []measure.Series{
		series("", "", 10), series("GET /", "", 7), series("POST /orders", "", 3), series("", "plan=free", 4),
	}}
	book := NewBook()
	if added := book.Add(tick); len(added) != 1 || len(added[0].Series) != 4 {
		t.Errorf("handed on: %+v", added)
	}
	if kept := len(book.ticks[0].Series); kept != 1 {
		t.Errorf("%d series are kept", kept)
	}
	if sum := book.Sum("shop", domain.Production, "", at.Add(-time.Second), at); sum.Requests != 10 {
		t.Errorf("%d requests", sum.Requests)
	}
	if again := book.Add(tick); len(again) != 0 || book.Observed(at.Add(-time.Second)) != 1 {
		t.Error("a tick counts twice")
	}
}
