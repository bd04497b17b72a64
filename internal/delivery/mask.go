package delivery

import (
	"slices"

	"github.com/belay-cd/belay/internal/domain"
)

// maskDelivery takes the values of secrets out of all that was said by somebody else: outputs of commands, answers of checks,
// causes of failures. It is done where things are stored and shown, so that no way there can be forgotten.
func (s *Service) maskDelivery(d *domain.Delivery) {
	if s.ports.Mask == nil {
		return
	}
	text := func(fields ...*string) {
		for _, f := range fields {
			if *f != "" {
				*f = s.ports.Mask(d.App, *f)
			}
		}
	}
	for i := range d.Stages {
		row := &d.Stages[i]
		text(&row.Summary)
		row.Notes = maskList(row.Notes, text)
		for j := range row.Steps {
			text(&row.Steps[j].Verdict, &row.Steps[j].Message)
		}
		for j := range row.Levels {
			text(&row.Levels[j].Reason, &row.Levels[j].Slowest)
			row.Levels[j].Warnings = maskList(row.Levels[j].Warnings, text)
			row.Levels[j].Flaky = maskList(row.Levels[j].Flaky, text)
		}
		for j := range row.Checks {
			text(&row.Checks[j].Message)
		}
	}
	if d.Wait != nil {
		wait := *d.Wait
		text(&wait.Reason)
		d.Wait = &wait
	}
	if d.Outcome != nil {
		outcome := *d.Outcome
		text(&outcome.Sentence, &outcome.Hint)
		d.Outcome = &outcome
	}
	d.Gates, d.Checklist = slices.Clone(d.Gates), slices.Clone(d.Checklist)
	for i := range d.Gates {
		text(&d.Gates[i].Detail)
	}
	for i := range d.Checklist {
		text(&d.Checklist[i].Detail)
	}
}

func maskList(list []string, text func(...*string)) []string {
	list = slices.Clone(list)
	for i := range list {
		text(&list[i])
	}
	return list
}

// maskEvent does the same for an event: texts in its data, and texts in lists.
func (s *Service) maskEvent(e *domain.Event) {
	if s.ports.Mask == nil || e.App == "" || len(e.Data) == 0 {
		return
	}
	data := make(map[string]any, len(e.Data))
	for name, v := range e.Data {
		switch v := v.(type) {
		case string:
			data[name] = s.ports.Mask(e.App, v)
		case []string:
			data[name] = maskList(v, func(fields ...*string) { *fields[0] = s.ports.Mask(e.App, *fields[0]) })
		default:
			data[name] = v
		}
	}
	e.Data = data
}

// maskedError is an error whose text says no value; what it wraps is for decisions only.
type maskedError struct {
	cause error
	text  string
}

func (e *maskedError) Error() string { return e.text }
func (e *maskedError) Unwrap() error { return e.cause }

// maskError does the same for an error.
func (s *Service) maskError(app string, err error) error {
	if err == nil || s.ports.Mask == nil {
		return err
	}
	text := s.ports.Mask(app, err.Error())
	if text == err.Error() {
		return err
	}
	return &maskedError{cause: err, text: text}
}
