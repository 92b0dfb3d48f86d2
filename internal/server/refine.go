package server

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/auth"
)

// object is one of JSON.
type object = map[string]any

// document is the OpenAPI document with what holds for all routes, and what no
// type of Go can say. What is checked of a request is what huma knows; this is
// what is written.
func (s *Server) document() (object, error) {
	b, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		return nil, err
	}
	var doc object
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	components := in(doc, "components")
	r := refiner{schemas: in(components, "schemas"), asked: map[string]bool{}}
	for _, rt := range s.routes {
		if op := in(doc, "paths", humaPath(rt.path), strings.ToLower(rt.method)); op != nil && !rt.hidden {
			r.operation(op, rt)
		}
	}
	for _, name := range []string{"Exec", "StartProcess"} {
		program := in(r.schemas, name)
		program["anyOf"] = []any{
			object{"type": "object", "required": []any{"command"}, "properties": object{"command": object{"type": "string", "minLength": 1}}},
			object{"type": "object", "required": []any{"args"}, "properties": object{"args": object{"type": "array", "items": object{"type": "string"}, "minItems": 1}}},
		}
	}
	if kinds, ok := in(r.schemas, "SignalProcess", "properties", "signal")["oneOf"].([]any); ok {
		kinds[1].(object)["enum"] = signalNames()
	}
	return doc, nil
}

// in is the object within others, nil if there is none.
func in(o object, names ...string) object {
	for _, name := range names {
		o, _ = o[name].(object)
	}
	return o
}

// refiner works on a document.
type refiner struct {
	schemas object
	asked   map[string]bool // those that requests bring
}

func (r refiner) operation(op object, rt route) {
	if rt.need == auth.NeedNone {
		op["security"] = []any{object{}}
	}
	params, _ := op["parameters"].([]any)
	if _, ok := rt.do.(raw); !ok { // raw routes look for themselves
		for _, p := range params {
			requiredText(p.(object))
		}
	}
	for _, answer := range in(op, "responses") {
		if m := in(answer.(object), "content", "text/event-stream"); m != nil {
			// Each event's, as generators of clients take it: 3.1 has no words for
			// the items of a stream.
			m["schema"] = object{"type": "object", "required": []any{"data"}, "properties": object{
				"id": object{"type": "string"}, "event": object{"type": "string"},
				"data": object{"type": "string", "contentMediaType": "application/json"}}}
		}
	}
	if m := in(op, "requestBody", "content", "application/json"); m != nil { // forms know no null
		r.nullable(m["schema"])
	}
}

// requiredText: what must be there can't be empty, as huma has it.
func requiredText(p object) {
	if schema := in(p, "schema"); p["in"] == "query" && p["required"] == true && schema["type"] == "string" && schema["minLength"] == nil {
		schema["minLength"] = 1
	}
}

// nullable says that what a request need not bring it may bring as null.
func (r refiner) nullable(schema any) {
	s, _ := schema.(object)
	if s == nil {
		return
	}
	if ref, ok := s["$ref"].(string); ok {
		if name := ref[strings.LastIndexByte(ref, '/')+1:]; !r.asked[name] {
			r.asked[name] = true
			r.nullable(r.schemas[name])
		}
		return
	}
	r.nullable(s["items"])
	required, _ := s["required"].([]any)
	props := in(s, "properties")
	for name, p := range props {
		r.nullable(p)
		if !slices.Contains(required, any(name)) {
			props[name] = orNull(p.(object))
		}
	}
}

func orNull(s object) object {
	null := object{"type": "null"}
	if kind, ok := s["type"].(string); ok {
		s["type"] = []any{kind, "null"}
		if enum, ok := s["enum"].([]any); ok {
			s["enum"] = append(enum, nil)
		}
	} else if kinds, ok := s["oneOf"].([]any); ok {
		s["oneOf"] = append(kinds, null)
	} else if ref, ok := s["$ref"]; ok {
		delete(s, "$ref")
		s["anyOf"] = []any{object{"$ref": ref}, null}
	}
	return s
}

// signalNames are those that a signal may be sent by, in capital letters.
func signalNames() []any {
	var names []any
	for n := syscall.Signal(1); n <= syscall.Signal(lastSignal); n++ {
		if name := unix.SignalName(n); name != "" {
			names = append(names, name, strings.TrimPrefix(name, "SIG"))
		}
	}
	return names
}
