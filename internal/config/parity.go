package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Difference is one thing that is not the same in staging and in production.
type Difference struct {
	ID   string `json:"id"`   // what parity declares: roles.web.memory
	What string `json:"what"` // 512MiB in staging, 2GiB in production
	// Declared is how it is known to be on purpose: the reason, or the key that says so. "" stops the line.
	Declared string `json:"declared,omitempty"`
	// Later says that the commit which brings the difference declares it, too: that counts from the next delivery on.
	Later bool `json:"later,omitempty"`
	// Fact says that it was found in what runs: no commit brought it.
	Fact bool `json:"fact,omitempty"`
}

// Parity is how staging and production differ.
type Parity struct {
	Differences []Difference `json:"differences"`
	// Unused are ids that are declared and differ no longer.
	Unused []string `json:"unused,omitempty"`
	// NotCompared says what could not be compared, and why.
	NotCompared []string `json:"not_compared,omitempty"`
}

// The ids of differences that only what runs can show.
const (
	DatabaseVersion = "database.version"
	DatabaseRows    = "database_rows"
)

// inColumns is how a key says that its two values differ on purpose.
const inColumns = "written in two columns"

// ParityOf compares the environments, by the delivery's own file and by facts that were found in what runs. last is the file
// of the last release that is done, nil before there is one. A commit does not accept the difference that it brings: its
// declaration counts for what was there before it, and for the rest from the next delivery on.
func ParityOf(own, last *File, facts []Difference, notCompared []string) Parity {
	p := Parity{Differences: append(own.differences(), facts...), NotCompared: notCompared}
	var before []Difference
	if last != nil {
		before = last.differences()
	}
	used := map[string]bool{}
	for i := range p.Differences {
		d := &p.Differences[i]
		reason, declared := own.Parity[d.ID]
		used[d.ID] = true
		if d.Declared != "" || !declared {
			continue
		}
		old := last == nil || d.Fact || last.Parity[d.ID] != "" || slices.ContainsFunc(before, func(o Difference) bool {
			return o.ID == d.ID && o.What == d.What
		})
		if old {
			d.Declared = string(reason)
		}
		d.Later = !old
	}
	for _, id := range slices.Sorted(maps.Keys(own.Parity)) {
		if !used[id] && (len(notCompared) == 0 || !ofDatabase(id)) {
			p.Unused = append(p.Unused, id)
		}
	}
	return p
}

func ofDatabase(id string) bool { return id == DatabaseVersion || id == DatabaseRows }

// Undeclared are the differences that stop the line.
func (p Parity) Undeclared() (list []Difference) {
	for _, d := range p.Differences {
		if d.Declared == "" {
			list = append(list, d)
		}
	}
	return list
}

// String counts and names them: 1 declared: env.LOG_LEVEL, 0 undeclared.
func (p Parity) String() string {
	var declared, undeclared []string
	for _, d := range p.Differences {
		if d.Declared != "" {
			declared = append(declared, d.ID)
		} else {
			undeclared = append(undeclared, d.ID)
		}
	}
	text := counted(declared, "declared") + ", " + counted(undeclared, "undeclared")
	if len(p.NotCompared) > 0 {
		text += ", not compared: " + strings.Join(p.NotCompared, "; ")
	}
	return text
}

func counted(ids []string, word string) string {
	if len(ids) == 0 {
		return "0 " + word
	}
	return fmt.Sprintf("%d %s: %s", len(ids), word, strings.Join(ids, ", "))
}

// Lines tells each difference in one line.
func (p Parity) Lines() (list []string) {
	for _, d := range p.Differences {
		why := d.Declared
		switch {
		case d.Later:
			why = "declared by this commit: it counts from the next delivery on"
		case why == "":
			why = "undeclared"
		}
		list = append(list, fmt.Sprintf("parity: %s: %s · %s", d.ID, d.What, why))
	}
	for _, id := range p.Unused {
		list = append(list, fmt.Sprintf("parity: %s: declared, and it no longer differs", id))
	}
	for _, text := range p.NotCompared {
		list = append(list, "parity: not compared: "+text)
	}
	return list
}

// differences computes how the file's environments differ. What a file cannot write twice is compared all the same: the
// workloads of both are what runs.
func (f *File) differences() []Difference {
	var list []Difference
	for _, name := range slices.Sorted(maps.Keys(f.Env)) {
		list = append(list, variable("env."+name, f.Env[name])...)
	}
	staging, production := Workloads(f, domain.Staging), Workloads(f, domain.Production)
	for i, s := range staging {
		at := "roles." + s.Role + "."
		list = append(list, workloadDifferences(at, s, production[i])...)
		vars := f.Roles[s.Role].Env
		for _, name := range slices.Sorted(maps.Keys(vars)) {
			list = append(list, variable(at+"env."+name, vars[name])...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Verify.Checks)) {
		if c := f.Verify.Checks[name]; c != nil && c.Only != "" {
			list = append(list, Difference{ID: "verify.checks." + name, What: fmt.Sprintf("it runs in %s only", c.Only), Declared: fmt.Sprintf("only: %s", c.Only)})
		}
	}
	return list
}

// variable compares the two values of a variable: two columns say that they differ on purpose, unless one is empty. Values
// are not told: they may be long, and names are enough.
func variable(id string, v Env[Text]) []Difference {
	switch {
	case v.Staging == v.Production:
		return nil
	case v.Staging == "":
		return []Difference{{ID: id, What: "empty in staging, set in production"}}
	case v.Production == "":
		return []Difference{{ID: id, What: "set in staging, empty in production"}}
	default:
		return []Difference{{ID: id, What: "its values differ", Declared: inColumns}}
	}
}

// ofItsPlace are the fields of a workload that belong to its place, or are compared as variables.
var ofItsPlace = []string{"Role", "Hosts", "Env", "Secrets"}

// workloadDifferences compares all fields of a role's two workloads. Another number of instances is another size and no other
// mechanics, as long as there are at least two.
func workloadDifferences(at string, staging, production domain.Workload) (list []Difference) {
	s, p := reflect.ValueOf(staging), reflect.ValueOf(production)
	for i := range s.NumField() {
		field := s.Type().Field(i)
		if slices.Contains(ofItsPlace, field.Name) || reflect.DeepEqual(s.Field(i).Interface(), p.Field(i).Interface()) {
			continue
		}
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		d := Difference{ID: at + key, What: fmt.Sprintf("%s in staging, %s in production", told(field.Name, s.Field(i)), told(field.Name, p.Field(i)))}
		if field.Name == "Instances" && min(staging.Instances, production.Instances) >= 2 {
			d.Declared = inColumns
		}
		list = append(list, d)
	}
	return list
}

// told writes a field's value as the file does.
func told(field string, v reflect.Value) string {
	switch {
	case v.IsZero():
		return "none"
	case field == "Memory":
		return Size(v.Int()).String()
	default:
		return fmt.Sprint(v.Interface())
	}
}

// rulesParity warns of what would stop the line, and of what is declared for nothing.
func (f *File) rulesParity() {
	if slices.ContainsFunc(f.found, func(n Finding) bool { return n.Severity == Error }) {
		return // what could not be read differs from everything
	}
	p := ParityOf(f, nil, nil, []string{"databases"})
	for _, d := range p.Undeclared() {
		f.warnf("parity", f.Pos(d.ID), fmt.Sprintf("make them the same, or declare it: parity: { %s: <reason> }", d.ID),
			"%s: %s: an undeclared difference stops every delivery before Deploy staging", d.ID, d.What)
	}
	for _, id := range p.Unused {
		f.warnf("parity-unused", f.KeyPos("parity."+id), "take it away; belay plan lists the ids", "parity.%s: it does not differ", id)
	}
}
