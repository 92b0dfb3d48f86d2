package api

import "encoding/json"

// HTTPRequest asks for an HTTP request to a server in a sandbox.
type HTTPRequest struct {
	_        struct{}          `json:"-" additionalProperties:"true"`
	Port     int               `json:"port" minimum:"1" maximum:"65535" doc:"Where the server listens in the sandbox"`
	Path     string            `json:"path,omitempty" default:"/" doc:"With the query, if any"`
	Method   string            `json:"method,omitempty" default:"GET"`
	Headers  map[string]string `json:"headers,omitempty"`
	Body     *string           `json:"body,omitempty"`
	JSONBody json.RawMessage   `json:"json_body,omitempty" doc:"The body as JSON, instead of body"`
	Timeout  Seconds           `json:"timeout,omitempty" default:"30" doc:"Seconds, for all of it"`
}

// HTTPAnswer is what the server answered.
type HTTPAnswer struct {
	StatusCode int               `json:"status_code"`
	Headers    map[string]string `json:"headers" doc:"Those that came several times are joined by commas"`
	Body       string            `json:"body" doc:"As text: what is not UTF-8 is replaced"`
	BodyBase64 string            `json:"body_base64,omitempty" doc:"The body as it is, if it is not UTF-8"`
}

// DialEnd is the text frame that ends one side of a connection to a port.
type DialEnd struct {
	Type string `json:"type" enum:"end"`
}
