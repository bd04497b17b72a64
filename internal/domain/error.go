package domain

import (
	"errors"
	"fmt"
)

// Code classifies an error so that each surface (command line, API, events) can act on it without reading its text.
type Code string

// The codes, and what each means to the caller.
const (
	// Failed is work that was tried and did not succeed: a red stage, a rollback that could not finish.
	Failed Code = "failed"
	// Invalid is wrong usage or configuration: the caller must change what was asked.
	Invalid Code = "invalid"
	// NotFound names an app, a delivery, a release or an artifact that does not exist.
	NotFound Code = "not_found"
	// Unavailable means that the server or a part of it did not answer: nothing is known to have happened.
	Unavailable Code = "unavailable"
	// Waiting means that a gate is not open yet.
	Waiting Code = "waiting"
	// RolledBack means that the release was taken back.
	RolledBack Code = "rolled_back"
	// Refused means that a policy says no: the sentence names who can lift it.
	Refused Code = "refused"
	// Conflict means that another actor holds what was asked for.
	Conflict Code = "conflict"
	// Rejected means that a person ended it.
	Rejected Code = "rejected"
	// Superseded means that a newer delivery of the app took its place.
	Superseded Code = "superseded"
	// Expired means that a wait reached its deadline.
	Expired Code = "expired"
	// Denied means that the caller did not show who they are, or may not do this.
	Denied Code = "denied"
)

// Exit returns the exit code of the command line for c.
func (c Code) Exit() int {
	switch c {
	case Invalid, NotFound:
		return 2
	case Unavailable:
		return 3
	case Waiting:
		return 10
	case RolledBack:
		return 11
	case Refused, Conflict, Rejected, Superseded, Expired, Denied:
		return 12
	default:
		return 1
	}
}

// Error is what a person sees: what happened and why in one lower-case line without a full stop, and what to do next.
// The wrapped cause is for the operator's log.
type Error struct {
	Code    Code
	Message string
	Hint    string
	Cause   error
}

// Errorf makes an Error of a code; %w in the format becomes its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// WithHint returns a copy of e that says what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf returns the code of the first Error in err's chain, and Failed for any other error.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Failed
}

// HintOf returns the hint of the first Error in err's chain, or "".
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
