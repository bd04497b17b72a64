package scrape

import (
	"os"
	"strings"
	"testing"
)

func TestPools(t *testing.T) {
	s := NewSamples(Limits{})
	main := map[string]string{"pool": "main"}
	for i, sec := range []int{0, 5, 10} {
		fill(t, s, id("rel_a", 0), sec,
			sample{"hikaricp_connections_active", main, 9}, sample{"hikaricp_connections_max", main, 10},
			sample{"hikaricp_connections_pending", main, float64([]int{0, 4, 3}[i])}, sample{"hikaricp_connections_timeout_total", main, float64(i)},
			sample{"hikaricp_connections_active", map[string]string{"pool": "other"}, 1})
		fill(t, s, id("rel_a", 1), sec,
			sample{"shop_go_sql_in_use_connections", map[string]string{"db_name": "shop"}, float64([]int{1, 20, 2}[i])},
			sample{"shop_go_sql_max_open_connections", map[string]string{"db_name": "shop"}, 20},
			sample{"shop_go_sql_wait_duration_seconds_total", map[string]string{"db_name": "shop"}, float64(sec) * 0.5})
		fill(t, s, id("rel_a", 2), sec,
			sample{"db_client_connections_usage", map[string]string{"state": "idle"}, 7},
			sample{"db_client_connections_usage", map[string]string{"state": "used"}, 3},
			sample{"db_client_connections_max", nil, 10}, sample{"not_a_db_pool", nil, 1}, sample{"mydb_pool_max", nil, 1})
		fill(t, s, id("rel_b", 0), sec, sample{"orders_db_pool_in_use", nil, 2})
	}
	want := []Pool{
		{Instance: id("rel_a", 0), Name: `hikaricp_connections_active{pool="main"}`, Used: 9, Max: 10, Waiting: 3, Errors: 2, Judged: true},
		{Instance: id("rel_a", 0), Name: `hikaricp_connections_active{pool="other"}`, Used: 1, Max: 10, Judged: true},
		{Instance: id("rel_a", 1), Name: `shop_go_sql_in_use_connections{db_name="shop"}`, Used: 2, Max: 20, Waiting: 0.5, Judged: true},
		{Instance: id("rel_a", 2), Name: `db_client_connections_usage`, Used: 3, Max: 10, Judged: true},
	}
	got := s.Pools(Window{at(0), at(10)}, "rel_a")
	if len(got) != len(want) {
		t.Fatalf("%d pools, want %d: %+v", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("pool %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
	if alone := s.Pools(Window{at(0), at(10)}, "rel_b"); len(alone) != 1 || alone[0].Judged {
		t.Errorf("without a limit and without those who wait nothing can be judged: %+v", alone)
	}
}

func TestCaches(t *testing.T) {
	s := NewSamples(Limits{})
	for i, sec := range []int{0, 5} {
		fill(t, s, id("rel_a", 0), sec,
			sample{"page_cache_hits_total", nil, 100 + 30*float64(i)}, sample{"page_cache_misses_total", nil, 5 + 10*float64(i)},
			sample{"cache_gets_total", map[string]string{"result": "hit", "cache": "a"}, 8 * float64(i)},
			sample{"cache_gets_total", map[string]string{"result": "miss", "cache": "a"}, 2 * float64(i)},
			sample{"cache_gets_total", map[string]string{"result": "pending", "cache": "a"}, 50 * float64(i)})
		fill(t, s, id("rel_a", 1), sec,
			sample{"page_cache_hits_total", nil, 30 * float64(i)}, sample{"django_cache_get_misses_total", nil, 4 * float64(i)})
	}
	want := []Cache{{"cache_gets_total", 8, 2}, {"django_cache_get_hits_total", 0, 4}, {"page_cache_hits_total", 60, 10}}
	got := s.Caches(Window{at(0), at(5)}, "rel_a")
	if len(got) != len(want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	if r := got[0].Rate(); r != 0.8 {
		t.Errorf("rate %v", r)
	}
}

func TestWellKnown(t *testing.T) {
	s := NewSamples(Limits{})
	if err := s.add(id("rel_a", 0), at(0), []sample{{CPUSeconds, nil, 1}}, true); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		want WellKnown
	}{
		{"", WellKnown{}}, {"http_requests_total", WellKnown{Any: true}}, {"shop_db_pool_max", WellKnown{Any: true, Pools: true}},
		{"page_cache_misses_total", WellKnown{true, true, true}},
	} {
		if c.name != "" {
			fill(t, s, id("rel_a", 0), 5, sample{c.name, nil, 1})
		}
		if got := s.WellKnown("rel_a"); got != c.want {
			t.Errorf("after %q: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// Whoever wants a pool or a cache to be checked finds its names on the page about checks.
func TestWellKnownNamesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range knownPools {
		for _, list := range p.fields() {
			names = append(names, list...)
		}
	}
	for _, c := range knownCaches {
		names = append(names, c.hits, c.misses)
	}
	for _, name := range names {
		if !strings.Contains(string(page), name) {
			t.Errorf("docs/checks.md does not name %s", name)
		}
	}
}
