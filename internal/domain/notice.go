package domain

import "time"

// NoticeKind says what a channel is told about. The first six are the events that belay.yaml may name.
type NoticeKind string

// The kinds of messages.
const (
	NoticeStarted    NoticeKind = "started"
	NoticeWaiting    NoticeKind = "waiting"
	NoticeHeld       NoticeKind = "held"
	NoticeRolledBack NoticeKind = "rolled_back"
	NoticeFailed     NoticeKind = "failed"
	NoticeDone       NoticeKind = "done"
	NoticePage       NoticeKind = "page" // a person is needed now: told to whoever listens to failed or held
	NoticeTest       NoticeKind = "test" // asked for by a person
)

// NoticeState says what became of a message.
type NoticeState string

// The states of a message. All but NoticePending are final.
const (
	NoticePending  NoticeState = "pending"
	NoticeSent     NoticeState = "sent"     // the receiver took it
	NoticeGivenUp  NoticeState = "given_up" // it was tried for long enough
	NoticeReplaced NoticeState = "replaced" // a newer one about the same took its place
)

// Notice is one message to one channel. It holds no secret: where it goes is looked up when it is sent.
type Notice struct {
	// ID is the same however often the message is computed and sent, so that a receiver can tell a repetition.
	ID          string      `json:"id"` // ntf_…
	App         string      `json:"app"`
	Channel     string      `json:"channel"`
	Kind        NoticeKind  `json:"kind"`
	Delivery    int         `json:"delivery,omitempty"` // 0: about the app
	Environment Environment `json:"environment,omitempty"`
	Sentence    string      `json:"sentence"` // begins with the word of its kind
	URL         string      `json:"url,omitempty"`
	Event       Event       `json:"event"`
	Facts       NoticeFacts `json:"facts,omitzero"`

	State    NoticeState `json:"state"`
	Created  time.Time   `json:"created"`
	Next     time.Time   `json:"next"` // when it is tried, or tried again
	Attempts int         `json:"attempts"`
	Ended    *time.Time  `json:"ended,omitempty"`
	Why      string      `json:"why,omitempty"` // the last attempt failed
}

// NoticeFacts are what a message says of its delivery, as it was when the message was written.
type NoticeFacts struct {
	Commit    string        `json:"commit,omitempty"`
	Subject   string        `json:"subject,omitempty"`
	Author    string        `json:"author,omitempty"`
	ShippedBy string        `json:"shipped_by,omitempty"`
	State     DeliveryState `json:"state,omitempty"`
	Digest    string        `json:"digest,omitempty"`
}

// ChannelRecord is how the last messages of a channel went.
type ChannelRecord struct {
	App     string     `json:"app"`
	Channel string     `json:"channel"`
	OK      *time.Time `json:"ok,omitempty"`     // the last success
	Failed  *time.Time `json:"failed,omitempty"` // the last failure
	Why     string     `json:"why,omitempty"`    // of the last failure
	// Place tells one URL from another without telling it: keyed, and of the last success.
	Place string `json:"place,omitempty"`
}

// ChannelStatus is a channel as people see it.
type ChannelStatus struct {
	App     string       `json:"app"`
	Channel string       `json:"channel"`
	Events  []NoticeKind `json:"events"`         // what it is told about
	Set     bool         `json:"set"`            // its URL is set
	Kind    string       `json:"kind,omitempty"` // webhook, slack, smtp, …
	Signed  bool         `json:"signed"`         // of a webhook
	Pending int          `json:"pending"`
	OK      *time.Time   `json:"last_success,omitempty"`
	Failed  *time.Time   `json:"last_failure,omitempty"`
	Why     string       `json:"why,omitempty"` // of the last failure
	Changed bool         `json:"changed"`       // its URL is another one since the last success
}

// ChannelTest is what became of a test message.
type ChannelTest struct {
	App     string  `json:"app"`
	Channel string  `json:"channel"`
	Kind    string  `json:"kind"`
	OK      bool    `json:"ok"`
	Answer  string  `json:"answer"` // of the receiver, or why there was none
	Took    float64 `json:"took"`   // seconds
}
