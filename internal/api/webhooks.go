package api

import "time"

// CreateWebhook asks for events to be sent to a URL.
type CreateWebhook struct {
	URL     string   `json:"url" doc:"http or https; events are POSTed to it"`
	Types   []string `json:"types,omitempty" doc:"Only events of these types; none: all"`
	Sandbox string   `json:"sandbox,omitempty" doc:"Only events of the sandbox with this id"`
	Secret  string   `json:"secret,omitempty" doc:"What signatures are made with; not given: the server makes one"`
	After   *int64   `json:"after,omitempty" doc:"Begin after the event with this id; 0: with the oldest kept; not given: with the next"`
}

// Webhook is a URL that events are sent to.
type Webhook struct {
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	Types     []string  `json:"types,omitempty"`
	Sandbox   string    `json:"sandbox,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	Delivered int64     `json:"delivered" doc:"The id of the last event that was taken, or given up"`
	Failures  int       `json:"failures,omitempty" doc:"How often the next one was sent in vain"`
	Error     string    `json:"error,omitempty" doc:"Why, the last time"`
	Dropped   int64     `json:"dropped,omitempty" doc:"How many events were given up"`
}

// NewWebhook is a webhook that was just made. The secret can't be shown again.
type NewWebhook struct {
	Webhook
	Secret string `json:"secret" doc:"The header Bandsox-Signature is t=SECONDS,v1=HEX: HMAC-SHA256 with this secret over SECONDS, a dot and the body"`
}
