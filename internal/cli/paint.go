package cli

import (
	"charm.land/lipgloss/v2"

	"github.com/belay-cd/belay/internal/domain"
)

// paint colours words on a terminal. Colours only repeat what the words say; the zero value writes plain text.
type paint struct{ on bool }

func (p paint) style(s lipgloss.Style, text string) string {
	if !p.on {
		return text
	}
	return s.Render(text)
}

func (p paint) bold(text string) string  { return p.style(lipgloss.NewStyle().Bold(true), text) }
func (p paint) faint(text string) string { return p.style(lipgloss.NewStyle().Faint(true), text) }
func (p paint) red(text string) string {
	return p.style(lipgloss.NewStyle().Foreground(lipgloss.Red), text)
}
func (p paint) green(text string) string {
	return p.style(lipgloss.NewStyle().Foreground(lipgloss.Green), text)
}
func (p paint) yellow(text string) string {
	return p.style(lipgloss.NewStyle().Foreground(lipgloss.Yellow), text)
}
func (p paint) cyan(text string) string {
	return p.style(lipgloss.NewStyle().Foreground(lipgloss.Cyan), text)
}

// state colours text in the colour of a state.
func (p paint) state(s domain.DeliveryState, text string) string {
	switch s {
	case domain.DoneState:
		return p.green(text)
	case domain.Running:
		return p.bold(text)
	case domain.WaitingState, domain.Queued:
		return p.yellow(text)
	case domain.FailedState, domain.RolledBackState:
		return p.red(text)
	default:
		return p.faint(text)
	}
}
