package config

import (
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// pick returns text when it is one of the allowed words, and otherwise says which there are.
func pick(id, what, text string, allowed []string) *fault {
	for _, word := range allowed {
		if word == text {
			return nil
		}
	}
	f := &fault{id: id, why: "unknown " + what + " " + text, hint: strings.Join(allowed, ", ")}
	if near := nearest(text, allowed); near != "" {
		f.hint = "did you mean " + near + "?"
	}
	return f
}

// Driver runs the instances, in both environments alike.
type Driver string

// The drivers.
const (
	Process    Driver = "process"
	Docker     Driver = "docker"
	Kubernetes Driver = "kubernetes"
)

func (d *Driver) parse(s string) *fault {
	*d = Driver(s)
	return pick("driver", "driver", s, d.shape().enum)
}
func (*Driver) shape() shape {
	return shape{name: "word", enum: []string{string(Process), string(Docker), string(Kubernetes)}}
}

// Strategy is how next replaces stable, in both environments alike.
type Strategy string

// The strategies.
const (
	Canary    Strategy = "canary"
	BlueGreen Strategy = "blue-green"
	Rolling   Strategy = "rolling"
)

func (v *Strategy) parse(s string) *fault {
	*v = Strategy(s)
	return pick("strategy", "strategy", s, v.shape().enum)
}
func (*Strategy) shape() shape {
	return shape{name: "word", enum: []string{string(Canary), string(BlueGreen), string(Rolling)}}
}

// Split says what is drawn for a side: a visitor once, or each request.
type Split string

// The splits.
const (
	Visitor Split = "visitor"
	Request Split = "request"
)

func (v *Split) parse(s string) *fault {
	*v = Split(s)
	return pick("split", "split", s, v.shape().enum)
}
func (*Split) shape() shape {
	return shape{name: "word", enum: []string{string(Visitor), string(Request)}}
}

// Undecided says what happens when a step's time is over and nothing is proven.
type Undecided string

func (v *Undecided) parse(s string) *fault {
	*v = Undecided(s)
	return pick("undecided", "way out", s, v.shape().enum)
}
func (*Undecided) shape() shape {
	return shape{name: "word", enum: []string{"ladder", "ask", "wait", "promote"}}
}

// TLS says whether a role's hosts are served with certificates.
type TLS string

func (v *TLS) parse(s string) *fault { *v = TLS(s); return pick("tls", "word", s, v.shape().enum) }
func (*TLS) shape() shape            { return shape{name: "word", enum: []string{"auto", "none"}} }

// Overlap says what happens to a tick of a job that still runs.
type Overlap string

func (v *Overlap) parse(s string) *fault {
	*v = Overlap(s)
	return pick("overlap", "word", s, v.shape().enum)
}
func (*Overlap) shape() shape { return shape{name: "word", enum: []string{"skip", "queue"}} }

// Good says which way of a metric is better.
type Good string

func (v *Good) parse(s string) *fault {
	*v = Good(s)
	return pick("good", "direction", s, v.shape().enum)
}
func (*Good) shape() shape { return shape{name: "word", enum: []string{"up", "down"}} }

// Event is what a channel is told about.
type Event string

func (v *Event) parse(s string) *fault {
	if strings.Contains(s, "://") {
		return &fault{id: "channel-url", why: "a URL does not belong into the file", hint: "belay secret set notify/CHANNEL"}
	}
	*v = Event(s)
	return pick("event", "event", s, v.shape().enum)
}
func (*Event) shape() shape {
	return shape{name: "event", enum: []string{"started", "waiting", "held", "rolled_back", "failed", "done"}}
}

// Tool runs the migrations.
type Tool string

func (v *Tool) parse(s string) *fault { *v = Tool(s); return pick("tool", "tool", s, v.shape().enum) }
func (*Tool) shape() shape {
	return shape{name: "word", enum: []string{"goose", "golang-migrate", "atlas", "flyway", "alembic", "django", "rails", "dbmate", "sql"}}
}

// Only is the one environment in which a check runs, or "".
type Only string

func (v *Only) parse(s string) *fault {
	*v = Only(s)
	return pick("environment", "environment", s, v.shape().enum)
}
func (*Only) shape() shape {
	return shape{name: "word", enum: []string{string(domain.Staging), string(domain.Production)}}
}

// nearest returns the word that was probably meant: at most a third of its letters differ, or it begins alike. "" when
// none is close.
func nearest(word string, candidates []string) string {
	best, distance := "", 1+max(1, len(word)/3)
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(word), c); d < distance {
			best, distance = c, d
		}
	}
	if best != "" {
		return best
	}
	shared := max(4, 2*len(word)/3) - 1
	for _, c := range candidates {
		n := 0
		for n < min(len(c), len(word)) && c[n] == word[n] {
			n++
		}
		if n > shared {
			best, shared = c, n
		}
	}
	return best
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours (Damerau, restricted).
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
