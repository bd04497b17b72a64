package measure

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPackedComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := counted(durations(t, "a")), counted(durations(t, "b"))
		if rapid.Bool().Draw(t, "often") {
			b.Merge(b.Clone())
		}
		packed := b.Pack(a.Pack([]byte{7}))
		first, rest := UnpackHistogram(packed[1:])
		second, rest := UnpackHistogram(rest)
		if !same(first, a) || !same(second, b) || len(rest) != 0 || packed[0] != 7 {
			t.Fatalf("%v and %v come back as %v and %v, with %d bytes left", a, b, first, second, len(rest))
		}
	})
}

// A tally, and a quantile of many, say the same as the histograms added up.
func TestTallyIsTheMergedHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := counted(durations(t, "a")), counted(durations(t, "b"))
		var tally Tally
		list := []*Histogram{a.Clone(), nil, b}
		for _, h := range list {
			for _, p := range h.Pairs() {
				tally.AddPair(p)
			}
		}
		a.Merge(b)
		h := tally.Histogram()
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		n, quantile := QuantileOf(q, slices.Values(list))
		if !same(&h, a) || n != a.Count() || quantile != a.Quantile(q) {
			t.Fatalf("%v is tallied as %v, with %s at %f", a, &h, quantile, q)
		}
	})
}

// The quick reader of JSON and the general one agree on everything.
func FuzzHistogramJSON(f *testing.F) {
	for _, s := range []string{"[]", "[[0,1]]", "[[0,1],[695,2]]", " [ [ 1 , 2 ] ]", "[[1,2],]", "[[01,2]]", "[[1,2]", "[[2304,1]]", "[[1,9999999999999999999]]", "[[1,-1]]", "[[]]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var h Histogram
		if err := h.UnmarshalJSON(data); err != nil {
			return
		}
		last := int32(-1)
		for _, p := range h.Pairs() {
			if p.Bucket <= last || p.Bucket >= Buckets || p.Count < 1 {
				t.Fatalf("%s is read as %v", data, h.Pairs())
			}
			last = p.Bucket
		}
	})
}

func BenchmarkReadJSON(b *testing.B) {
	h := &Histogram{}
	for i := range 20 {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	raw, _ := h.MarshalJSON()
	for b.Loop() {
		if err := h.UnmarshalJSON(raw); err != nil {
			b.Fatal(err)
		}
	}
}
