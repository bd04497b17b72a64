package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/term"

	"github.com/belay-cd/belay/internal/domain"
)

// redraw is how often the live block may change.
const redraw = time.Second

// live is the block of one delivery on a terminal, drawn anew in place.
type live struct {
	ctx      context.Context // of the program that draws; bubbletea's commands get no other
	api      deliveries
	until    func(domain.Delivery) bool
	view     view
	delivery domain.Delivery
	away     time.Time // since when the server does not answer; zero: it does
	left     bool      // ctrl-c
	err      error
}

// looked is the answer to one look at the delivery.
type looked struct {
	delivery domain.Delivery
	err      error
	at       time.Time
}

// due says that it is time for another look.
type due struct{}

// Init begins with what is known and looks at once.
func (l live) Init() tea.Cmd { return l.look }

func (l live) look() tea.Msg {
	ctx, stop := context.WithTimeout(l.ctx, 5*time.Second)
	defer stop()
	d, err := l.api.Delivery(ctx, l.delivery.App, l.delivery.Number)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = domain.Errorf(domain.Unavailable, "the server does not answer: %w", err)
	}
	return looked{delivery: d, err: err, at: time.Now()}
}

// Update takes one message in.
func (l live) Update(m tea.Msg) (tea.Model, tea.Cmd) {
	switch m := m.(type) {
	case tea.KeyPressMsg:
		if m.String() == "ctrl+c" {
			l.left = true
			return l, tea.Quit
		}
	case tea.WindowSizeMsg:
		l.view.width = max(40, min(width, m.Width))
	case due:
		return l, l.look
	case looked:
		return l.saw(m)
	}
	return l, nil
}

// saw takes one look in and asks for the next.
func (l live) saw(m looked) (tea.Model, tea.Cmd) {
	l.view.now = m.at
	switch {
	case m.err == nil:
		l.delivery, l.away = m.delivery, time.Time{}
	case domain.CodeOf(m.err) != domain.Unavailable:
		l.err = m.err
		return l, tea.Quit
	case l.away.IsZero():
		l.away = m.at
	case m.at.Sub(l.away) > giveUp:
		l.err = gone(l.delivery, m.err)
		return l, tea.Quit
	}
	l.view.away = !l.away.IsZero()
	if l.over() {
		return l, tea.Quit
	}
	return l, tea.Tick(redraw, func(time.Time) tea.Msg { return due{} })
}

func (l live) over() bool {
	return l.delivery.State.Final() || l.until != nil && l.until(l.delivery)
}

// View draws the block.
func (l live) View() tea.View {
	v := l.view
	v.attached = !l.over() && !l.left
	return tea.NewView(v.delivery(l.delivery)) // the line end stays: what is behind the last one is erased at the end
}

// watchLive shows d on the terminal until it ends, and returns it as it was then.
func (s *session) watchLive(ctx context.Context, api deliveries, d domain.Delivery, w watching) (domain.Delivery, error) {
	model := live{ctx: ctx, api: api, until: w.over, view: s.view(), delivery: d}
	model.view.all = w.all
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithOutput(s.stdio.Out), tea.WithoutSignalHandler(), tea.WithInput(keyboard(s.stdio.In))}
	end, err := tea.NewProgram(model, options...).Run()
	if l, ok := end.(live); ok {
		d = l.delivery
		switch {
		case l.left:
			return d, errInterrupted
		case l.err != nil:
			return d, l.err
		}
	}
	if ctx.Err() != nil {
		return d, context.Cause(ctx)
	}
	if err != nil {
		return d, domain.Errorf(domain.Failed, "the terminal: %w", err)
	}
	return d, nil
}

// keyboard returns in when it is a terminal, so that keys are read and not echoed over the block; nil reads nothing.
func keyboard(in io.Reader) io.Reader {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}
