package service

import (
	"fmt"
	"strings"
	"testing"
)

// hundred is a schema of 100 tables, each with two indexes and some rows.
func hundred() map[string]string {
	var text strings.Builder
	for n := range 100 {
		fmt.Fprintf(&text, "create table t%d (id bigint generated always as identity primary key, name text not null, at timestamptz default now());\n", n)
		fmt.Fprintf(&text, "create index on t%d (name);\ninsert into t%d (name) select md5(n::text) from generate_series(1, 200) n;\n", n, n)
	}
	return map[string]string{"migrations/1.sql": text.String()}
}

// BenchmarkFreshDatabase is the time until a run has its own migrated database, the template being there.
func BenchmarkFreshDatabase(b *testing.B) {
	m := manager(b)
	v := newest(b)
	schema := migrations(b, "sql", hundred())
	first, err := m.Fresh(b.Context(), Customer{App: "shop"}, v, schema)
	if err != nil {
		b.Fatal(err)
	}
	must(b, first.URL(), "select count(*) from t99", "200")
	b.ResetTimer()
	for b.Loop() {
		d, err := m.Fresh(b.Context(), Customer{App: "shop"}, v, schema)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := d.Drop(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/database")
	b.StopTimer()
	if err := first.Drop(b.Context()); err != nil {
		b.Fatal(err)
	}
}
