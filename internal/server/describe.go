package server

import (
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// aBinary is a body that is just bytes.
var aBinary = &huma.Schema{Type: huma.TypeString, Format: "binary"}

// jsonResponse documents an answer that is a T.
func jsonResponse[T any](schemas huma.Registry, about string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: about, Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemas.Schema(reflect.TypeFor[T](), true, "")},
	}}}
}

// eventStream documents an answer of events whose data is like that of sample.
// The schema is that of the stream as text, for that is what a client gets.
func eventStream(schemas huma.Registry, about string, sample any) map[string]*huma.Response {
	schemas.Schema(reflect.TypeOf(sample), true, "")
	return map[string]*huma.Response{"200": {Description: about, Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: aString},
	}}}
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(b, '\n'))
	return err
}
