package metric

import (
	"slices"
	"testing"
)

func TestScaleOfQueries(t *testing.T) {
	for text, want := range map[string]Scale{
		`60 * rate(payments_total{state="captured"})`:                     {Requests: 1, Seconds: -1, Counters: []string{"payments_total"}},
		`sum(rate(orders_total[5m]))`:                                     {Requests: 1, Seconds: -1, Counters: []string{"orders_total"}},
		`increase(orders_total)`:                                          {Requests: 1, Counters: []string{"orders_total"}},
		`avg(rate(orders_total))`:                                         {Requests: 1, Instances: -1, Seconds: -1, Counters: []string{"orders_total"}},
		`rate(mails_bounced_total) / rate(mails_sent_total)`:              {Counters: []string{"mails_bounced_total", "mails_sent_total"}},
		`100 - 100 * rate(misses) / (rate(misses) + rate(hits))`:          {Counters: []string{"misses", "hits"}},
		`max(hikaricp_connections_pending)`:                               {Momentary: true},
		`db_pool_in_use`:                                                  {Instances: 1, Momentary: true},
		`sum(db_pool_in_use) / sum(db_pool_max)`:                          {Momentary: true},
		`quantile(0.95, cart_seconds)`:                                    {},
		`-rate(refunds_total)`:                                            {Requests: 1, Seconds: -1, Counters: []string{"refunds_total"}},
		`rate(revenue_total) / queue_length * queue_length`:               {Requests: 1, Seconds: -1, Counters: []string{"revenue_total"}},
		`rate(work_seconds_sum) / rate(work_seconds_count) * increase(n)`: {Requests: 1, Counters: []string{"work_seconds_sum", "work_seconds_count", "n"}},
	} {
		q, err := ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := q.Scale()
		if err != nil || got.Requests != want.Requests || got.Instances != want.Instances || got.Seconds != want.Seconds ||
			got.Momentary != want.Momentary || !slices.Equal(got.Counters, want.Counters) {
			t.Errorf("%s: %+v %v, not %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"orders_total", "rate(a) + 1", "rate(a) + queue", "rate(a) * rate(b)", "1 / rate(a)", "avg(request_seconds_sum)", "rate(a) - increase(a)",
	} {
		q, err := ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := q.Scale(); err == nil {
			t.Errorf("%s can be compared: %+v", text, s)
		}
	}
}
