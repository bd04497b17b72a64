package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// The gates that a person's word opens. An approval of one is none of another.
const (
	gateApprovals = "approvals"
	gateWayBack   = "way back"
	gateWindow    = "window"   // of an urgent delivery
	gateEvidence  = "evidence" // a step whose evidence is too thin
)

// demand is one rule of who must agree: that of the file, or that of the server's policy.
type demand struct {
	Need   int
	From   []string // user names; empty: whoever may use the server's socket
	Group  string   // of which From are the members; "" for a list of people
	Expire time.Duration
	Of     string // who demands it
}

// demands are all rules about who must agree before a file's delivery enters production.
func (s *Service) demands(f *config.File, floors domain.Floors) []demand {
	var list []demand
	if a := f.Gates.Approvals; a != nil {
		from := make([]string, len(a.From))
		for i, who := range a.From {
			from[i] = string(who)
		}
		list = append(list, s.demand(int(a.Need), from, a.Expire.D(), "gates.approvals"))
	}
	if floors.Need > 0 {
		expire := floors.Expire
		if expire == 0 {
			expire = config.DefaultApprovalExpire
		}
		list = append(list, s.demand(floors.Need, floors.From, expire, "the server's policy"))
	}
	return list
}

// demand resolves a group: one entry that no user is called.
func (s *Service) demand(need int, from []string, expire time.Duration, of string) demand {
	d := demand{Need: need, From: from, Expire: expire, Of: of}
	if len(from) != 1 {
		return d
	}
	group, marked := strings.CutPrefix(from[0], "@")
	if _, isUser := s.people().FullName(group); isUser && !marked {
		return d
	}
	if members, found := s.people().Members(group); found || marked {
		d.Group, d.From = group, members
	}
	return d
}

// whom names those who are asked.
func (d demand) whom() string {
	if d.Group != "" {
		return fmt.Sprintf("group %s (%s)", d.Group, orNobody(d.From))
	}
	return orNobody(d.From)
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// anybody stands for a question that everybody may answer who may use the socket.
func (d demand) anybody() bool { return d.Group == "" && len(d.From) == 0 }

// asks reports whether a person is one of those who are asked, by any name.
func (d demand) asks(who identity) bool {
	return d.anybody() || slices.ContainsFunc(d.From, who.is)
}

// tally is how far a demand is.
type tally struct {
	demand
	counted []domain.Approval // each person once
	others  int               // of them, those who are no authors
}

// met: enough people, and not the author alone.
func (t tally) met() bool {
	return len(t.counted) >= t.Need && (t.others > 0 || t.anybody())
}

// count counts each person once, in the order in which they agreed.
func (s *Service) count(d demand, made []string, given []domain.Approval) tally {
	t := tally{demand: d}
	seen := map[string]bool{}
	for _, a := range given {
		who := s.identify(a.By)
		if !d.asks(who) || seen[who.person] {
			continue
		}
		seen[who.person] = true
		t.counted = append(t.counted, a)
		if !s.madeBy(made, who) {
			t.others++
		}
	}
	return t
}

// can reports whether a demand can be met at all, whoever agrees.
func (s *Service) can(d demand, made []string) bool {
	var all []domain.Approval
	for _, name := range d.From {
		all = append(all, domain.Approval{By: name})
	}
	return d.anybody() || s.count(d, made, all).met()
}

// admitGates refuses at ship what could never pass its gates.
func (s *Service) admitGates(ctx context.Context, own *config.File, commit Commit, made []string) error {
	last, err := s.lastDone(ctx, string(own.App), int(^uint(0)>>1))
	if err != nil {
		return err
	}
	floors := s.policy().Floors(string(own.App))
	file, _, _ := effective(own, last, floors)
	for _, d := range s.demands(file, floors) {
		if !s.can(d, made) {
			return domain.Errorf(domain.Refused, "its approval could never be given: %s asks for %d of %s, and the author never counts alone (%s)",
				d.Of, d.Need, d.whom(), strings.Join(made, ", ")).WithHint("somebody else ships a commit of their own, or a further person is named in %s", d.Of)
		}
	}
	return s.admitPolicy(ctx, file, commit)
}

// policyGate shows what the server's policy changed. It never waits: what it refuses is refused where it is found, but for
// what has become stricter since the delivery began.
func (r *run) policyGate(ctx context.Context) (domain.Gate, error) {
	if err := r.stillStrict(ctx); err != nil {
		return domain.Gate{}, err
	}
	if len(r.settings.Raised) == 0 {
		return passed("it changes nothing"), nil
	}
	return passed("%s", strings.Join(r.settings.Raised, "; ")), nil
}

// stillStrict refuses a delivery whose gates are looser than those of one that was done while it was on its way: what judges
// it was fixed before that.
func (r *run) stillStrict(ctx context.Context) error {
	newest, err := r.s.lastDoneNumber(ctx, r.d.App, r.d.Number)
	if err != nil || newest == r.judge {
		return err
	}
	file, err := r.s.fileOf(ctx, r.d.App, newest)
	if err != nil || file == nil {
		return err
	}
	if looser := config.LooserGates(r.file, file); len(looser) > 0 {
		return domain.Errorf(domain.Refused, "#%d was done meanwhile, and its gates are stricter: %s", newest, strings.Join(looser, "; ")).
			WithHint("ship it again: it is held to them then")
	}
	return nil
}

// approvalsGate waits for the people who must agree. It holds nothing meanwhile.
func (r *run) approvalsGate(ctx context.Context) (domain.Gate, error) {
	demands := r.s.demands(r.file, r.s.policy().Floors(r.d.App))
	if len(demands) == 0 {
		return passed("nobody has to agree"), nil
	}
	return r.question(ctx, gateApprovals, demands, "")
}

// question is a gate that the word of people opens.
func (r *run) question(ctx context.Context, name string, demands []demand, about string) (domain.Gate, error) {
	given, err := r.given(ctx, name)
	if err != nil {
		return domain.Gate{}, err
	}
	d := r.snapshot()
	var owners, open []string
	need, expire, counted := 0, time.Duration(0), []domain.Approval(nil)
	for _, one := range demands {
		t := r.s.count(one, d.People, given)
		if need = max(need, one.Need); expire == 0 || one.Expire < expire {
			expire = one.Expire
		}
		counted = union(counted, t.counted)
		if !t.met() {
			owners = union(owners, r.s.missing(t))
			open = append(open, r.s.state(t, d, len(demands) > 1))
		}
	}
	if len(open) == 0 {
		g := passed("%d of %d: %s", len(counted), need, names(counted))
		g.Need, g.Given = need, counted
		return g, nil
	}
	waited, ahead, err := r.waited(ctx, name)
	if err != nil {
		return domain.Gate{}, err
	}
	if waited > expire {
		return domain.Gate{}, domain.Errorf(domain.Expired, "%s%s were not given within %s%s", prefixedBy(about), strings.Join(open, "; "), domain.Span(expire), jumped(ahead)).
			WithHint("ship it again: belay ship %s", domain.ShortCommit(d.Commit))
	}
	until := time.Now().Add(expire - waited).Round(time.Second)
	g := waiting(orNobody(owners), until, "%s%s · nothing is locked", prefixedBy(about), strings.Join(open, "; "))
	g.Need, g.Given = need, counted
	return g, nil
}

func prefixedBy(about string) string {
	if about == "" {
		return ""
	}
	return about + ": "
}

func jumped(ahead time.Duration) string {
	if ahead < clockSlack {
		return ""
	}
	return fmt.Sprintf("; the clock went ahead by %s meanwhile: it was set, or the machine slept", domain.Span(ahead.Round(time.Minute)))
}

// clockSlack is how far the clock on the wall and the one that nobody can set may differ before that is told.
const clockSlack = time.Minute

// state says how far a demand is, and who does not count and why.
func (s *Service) state(t tally, d domain.Delivery, several bool) string {
	text := fmt.Sprintf("%d of %d approvals", len(t.counted), t.Need)
	if several {
		text += " for " + t.Of
	}
	if len(t.counted) > 0 {
		text += " (" + names(t.counted) + ")"
	}
	if t.anybody() {
		return text
	}
	text += ", asked: " + orNobody(s.missing(t))
	for _, name := range t.From {
		if s.madeBy(d.People, s.identify(name)) {
			text += fmt.Sprintf("; %s is the author and does not count alone", name)
		}
	}
	return text
}

// missing are those who are asked, may count, and have not agreed. The author is not asked.
func (s *Service) missing(t tally) []string {
	if t.anybody() {
		return []string{"whoever may use the server's socket"}
	}
	var list []string
	for _, name := range t.From {
		who := s.identify(name)
		if !slices.ContainsFunc(t.counted, func(a domain.Approval) bool { return s.identify(a.By).person == who.person }) {
			list = append(list, name)
		}
	}
	return list
}

func names(given []domain.Approval) string {
	var list []string
	for _, a := range given {
		list = append(list, fmt.Sprintf("%s %s", a.By, a.At.UTC().Format("15:04Z")))
	}
	return strings.Join(list, ", ")
}

func union[T comparable](a, b []T) []T {
	for _, v := range b {
		if !slices.Contains(a, v) {
			a = append(a, v)
		}
	}
	return a
}

// given lists the approvals of this artifact at a gate of this delivery, as they are stored.
func (r *run) given(ctx context.Context, gate string) ([]domain.Approval, error) {
	facts, err := r.s.ports.Store.Facts(ctx, r.d.App, r.d.Number)
	if err != nil {
		return nil, err
	}
	var list []domain.Approval
	for _, f := range facts {
		if f.Kind == approveFact && f.Gate == gate && f.Digest == r.artifact.Digest && f.Delivery == r.d.Number {
			list = append(list, domain.Approval{By: f.By, At: f.At, Digest: f.Digest, Reason: f.Reason})
		}
	}
	return list, nil
}

// waiver are those of whom one may wave a single gate through: the approvers, where there are any.
func (r *run) waiver() []demand {
	list := r.s.demands(r.file, r.s.policy().Floors(r.d.App))
	for i := range list {
		list[i].Need = 1
	}
	if len(list) == 0 {
		list = []demand{{Need: 1, Expire: config.DefaultApprovalExpire, Of: "the server"}}
	}
	return list
}

// agreed returns the word of a person who may wave a gate through, nil when there is none yet.
func (r *run) agreed(ctx context.Context, gate string) (*domain.Approval, error) {
	given, err := r.given(ctx, gate)
	if err != nil {
		return nil, err
	}
	made := r.snapshot().People
	for _, d := range r.waiver() {
		if t := r.s.count(d, made, given); t.met() {
			return &t.counted[0], nil
		}
	}
	return nil, nil
}
