package delivery

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// Answer is a person's yes.
type Answer struct {
	App    string
	Number int // 0: the newest delivery
	// Gate is what it answers: approvals, way back, window or evidence; "" is what the delivery asks, where that needs no name.
	Gate string
	// Digest is the artifact that the person was shown.
	Digest     string
	By, Reason string
}

// Approve stores a person's yes to what a delivery asks now. The same yes twice is one.
func (s *Service) Approve(ctx context.Context, a Answer) (domain.Delivery, error) {
	d, gate, err := s.approve(ctx, a)
	r := s.find(d.App, d.Number)
	if err != nil || gate == "" || r == nil {
		return d, err
	}
	r.showGate(ctx, gate)
	return r.snapshot(), nil
}

// approve stores the yes, and returns the gate that it is about; "" when it was known already.
func (s *Service) approve(ctx context.Context, a Answer) (d domain.Delivery, gate string, err error) {
	s.answering.Lock()
	defer s.answering.Unlock()
	d, err = s.ports.Store.Delivery(ctx, a.App, a.Number)
	if err != nil {
		return d, "", err
	}
	if d.State.Final() {
		return d, "", hasEnded(d)
	}
	r := s.find(a.App, d.Number)
	if r == nil {
		return d, "", asksNothing(d.Number)
	}
	select {
	case <-r.begun:
	case <-time.After(loadWithin):
		return d, "", domain.Errorf(domain.Unavailable, "#%d is being read after a restart", d.Number).WithHint("approve it again in a moment")
	case <-ctx.Done():
		return d, "", context.Cause(ctx)
	}
	d = r.snapshot()
	if err := s.notRejected(ctx, d); err != nil {
		return d, "", err
	}
	gate, err = r.questioned(a.Gate)
	if err != nil {
		return d, "", err
	}
	if d.Digest == "" {
		return d, "", asksNothing(d.Number)
	}
	if a.Digest != d.Digest && (a.Digest != "" || gate != gateEvidence) {
		return d, "", otherDigest(d, a.Digest, d.Digest)
	}
	if again, err := r.mayAnswer(ctx, gate, a.By); err != nil || again {
		return d, "", err
	}
	f := domain.Fact{App: a.App, Delivery: d.Number, Environment: domain.Production, Kind: approveFact, Gate: gate, Digest: d.Digest,
		By: a.By, Reason: a.Reason, At: *now()}
	if err := s.ports.Store.PutFact(ctx, f); err != nil {
		return d, "", err
	}
	kind := "gate.approved"
	if gate == gateEvidence {
		kind = "gate.passed"
	}
	r.event(ctx, domain.Event{Type: kind, Environment: domain.Production, By: a.By,
		Data: map[string]any{"gate": gate, "digest": f.Digest, "detail": "approved by " + a.By + because(a.Reason)}})
	return d, gate, nil
}

// hasEnded refuses what comes after the end of a delivery, with the end.
func hasEnded(d domain.Delivery) error {
	text := string(d.State)
	if d.Outcome != nil && d.Outcome.Sentence != "" {
		text = d.Outcome.Sentence
	}
	return domain.Errorf(domain.Refused, "#%d has ended: %s", d.Number, strings.TrimSuffix(text, ".")).
		WithHint("belay show %d has all of it; to ask again, ship again", d.Number)
}

func asksNothing(number int) error {
	return domain.Errorf(domain.Refused, "#%d asks nothing now", number).WithHint("belay show %d says what it waits for", number)
}

func otherDigest(d domain.Delivery, shown, goes string) error {
	if shown == "" {
		return domain.Errorf(domain.Refused, "not approved: the request does not say which artifact was seen").
			WithHint("digest: %s, as belay show %d has it", goes, d.Number)
	}
	return domain.Errorf(domain.Refused, "not approved: what you saw is not what would go: %s was shown, #%d is %s", shortDigest(shown), d.Number, shortDigest(goes)).
		WithHint("belay show %d, then approve what it shows", d.Number)
}

// notRejected refuses a yes after a no.
func (s *Service) notRejected(ctx context.Context, d domain.Delivery) error {
	facts, err := s.ports.Store.Facts(ctx, d.App, d.Number)
	if err != nil {
		return err
	}
	for _, f := range facts {
		if f.Kind == rejectFact || f.Kind == cancelFact {
			return domain.Errorf(domain.Refused, "not approved: #%d was %s", d.Number, wish(f).Error()).
				WithHint("a no is final: ship it again to ask again")
		}
	}
	return nil
}

// questioned returns the gate that an answer is for: the named one when it asks now, and without a name the one that asks.
func (r *run) questioned(name string) (string, error) {
	open := r.openQuestions()
	switch {
	case name == "" && len(open) == 0:
		return "", asksNothing(r.d.Number)
	case name == "" && open[0] == gateWayBack:
		return "", domain.Errorf(domain.Refused, "not approved: #%d has no way back, and a yes to that names it", r.d.Number).
			WithHint("belay approve %d --no-way-back", r.d.Number)
	case name == "" && open[0] == gateWindow:
		return "", domain.Errorf(domain.Refused, "not approved: #%d waits for its window, and a yes that waives it names it", r.d.Number).
			WithHint("belay approve %d --window", r.d.Number)
	case name == "":
		return open[0], nil
	case slices.Contains(open, name), name == gateWindow && r.d.Urgent != "" && r.snapshot().Digest != "": // it may wait at a weight, too
		return name, nil
	default:
		return "", domain.Errorf(domain.Refused, "#%d does not ask for a yes to %s now", r.d.Number, name).
			WithHint("belay show %d says what it waits for", r.d.Number)
	}
}

// openQuestions are the gates that wait for somebody's word now.
func (r *run) openQuestions() []string {
	if r.asking() {
		return []string{gateEvidence}
	}
	d := r.snapshot()
	var open []string
	for _, g := range d.Gates {
		word := g.Name == gateApprovals || g.Name == gateWayBack || g.Name == gateWindow && d.Urgent != ""
		if word && g.State == gateWaiting {
			open = append(open, g.Name)
		}
	}
	return open
}

// mayAnswer refuses the yes of somebody whose yes would not count, and says why. Again: this person has agreed already.
func (r *run) mayAnswer(ctx context.Context, gate, by string) (again bool, err error) {
	if gate == gateEvidence {
		return false, nil
	}
	demands := r.waiver()
	if gate == gateApprovals {
		demands = r.s.demands(r.file, r.s.policy().Floors(r.d.App))
	}
	d, who := r.snapshot(), r.s.identify(by)
	author := r.s.madeBy(d.People, who)
	asked, alone, whom := false, true, []string(nil)
	for _, one := range demands {
		whom = append(whom, one.whom())
		if one.asks(who) {
			asked = true
			alone = alone && one.Need == 1 && !one.anybody()
		}
	}
	switch {
	case !asked:
		return false, domain.Errorf(domain.Refused, "not approved: %s is not one of those who are asked: %s", by, strings.Join(whom, "; ")).
			WithHint("one of them approves: belay approve %d", d.Number)
	case author && alone:
		return false, domain.Errorf(domain.Refused, "not approved: %s is an author of %s, and an author never counts alone", by, domain.ShortCommit(d.Commit)).
			WithHint("somebody else approves: %s", strings.Join(whom, "; "))
	}
	if waited, ahead, err := r.waited(ctx, gate); err != nil {
		return false, err
	} else if limit := shortest(demands); waited > limit {
		return false, domain.Errorf(domain.Refused, "not approved: #%d asked for longer than %s: it has expired%s", d.Number, domain.Span(limit), jumped(ahead)).
			WithHint("ship it again: belay ship %s", domain.ShortCommit(d.Commit))
	}
	given, err := r.given(ctx, gate)
	if err != nil {
		return false, err
	}
	for _, g := range given {
		if g.By == by {
			return true, nil
		}
		if r.s.identify(g.By).person == who.person {
			return false, domain.Errorf(domain.Refused, "not approved: %s is %s, who has approved already: one person counts once", by, g.By).
				WithHint("somebody else approves: %s", strings.Join(whom, "; "))
		}
	}
	return false, nil
}

// shortest is how long the most impatient demand waits.
func shortest(demands []demand) (limit time.Duration) {
	limit = config.MaxApprovalExpire
	for _, d := range demands {
		limit = min(limit, d.Expire)
	}
	return limit
}

// showGate shows a gate as it is after an answer, without waiting for the next look.
func (r *run) showGate(ctx context.Context, name string) {
	r.looking.Lock()
	defer r.looking.Unlock()
	for _, g := range gates {
		if g.name != name {
			continue
		}
		now, err := g.look(r, ctx)
		if err != nil {
			return // the next look ends the delivery with it
		}
		now.Name = name
		opened := false
		r.update(ctx, func(d *domain.Delivery) {
			list := slices.Clone(d.Gates)
			for i := range list {
				if list[i].Name == name {
					opened = list[i].State != gatePassed && now.State == gatePassed
					list[i] = now
				}
			}
			d.Gates = list
		})
		if opened {
			r.event(ctx, domain.Event{Type: "gate.passed", Data: map[string]any{"gate": name, "detail": now.Detail}})
		}
	}
}

// Reject says no to a delivery, wherever it is: before production it ends, after that it is rolled back.
func (s *Service) Reject(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error) {
	return s.endNow(ctx, domain.Fact{App: app, Delivery: number, Kind: rejectFact, By: by, Reason: reason})
}

// approveFact is the kind of the fact that lets an asking step go on.
const approveFact = "approve"

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
