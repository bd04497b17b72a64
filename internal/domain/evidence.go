package domain

// Evidence is everything that is signed about one delivery. It can be verified without the server that made it.
type Evidence struct {
	App      string        `json:"app"`
	Delivery int           `json:"delivery"`
	Commit   string        `json:"commit"` // full SHA
	Digest   string        `json:"digest"` // sha256:… of the artifact
	State    DeliveryState `json:"state"`
	// PublicKey is the server's, PEM. Whoever verifies compares it with a copy from elsewhere: a forger sends his own.
	PublicKey string `json:"public_key"`
	// Envelopes are DSSE envelopes as they were signed, each an in-toto statement about one stage.
	Envelopes []string `json:"envelopes"`
}
