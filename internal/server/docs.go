package server

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox/internal/auth"
)

var docRoutes = []route{
	{method: "GET", path: "/openapi.json", need: auth.NeedNone, hidden: true, do: stream((*Server).openapi, nil)},
	{method: "GET", path: "/docs", need: auth.NeedNone, hidden: true, do: stream((*Server).docs, nil)},
	{method: "GET", path: "/docs/style.css", need: auth.NeedNone, hidden: true, do: stream((*Server).docsStyle, nil)},
}

// OpenAPI is the document of the routes.
func (s *Server) OpenAPI() ([]byte, error) {
	doc, err := s.document()
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(doc, "", " ")
}

func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) error {
	doc, err := s.document()
	if err != nil {
		return err
	}
	return writeJSON(w, doc)
}

//go:embed docs.html
var docsPage string

//go:embed docs.css
var docsCSS []byte

var docsTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("docs").Funcs(template.FuncMap{"type": typeName, "words": strings.Fields}).Parse(docsPage))
})

func (s *Server) docsStyle(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, err := w.Write(docsCSS)
	return err
}

// docs is the document for people: no script, nothing from elsewhere.
func (s *Server) docs(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	doc := s.api.OpenAPI()
	return docsTemplate().Execute(w, map[string]any{"Version": s.version, "About": doc.Info.Description, "Parts": s.parts(doc), "Types": types(doc)})
}

// part is a part of the documentation, operation an entry of it.
type part struct {
	Name, About string
	Operations  []operation
}

type operation struct {
	*huma.Operation
	Need    string
	Body    []content
	Answers []response
}

type content struct {
	Kind   string
	Schema *huma.Schema
}

type response struct {
	Status, About string
	Content       []content
}

// parts has the operations in the order of the table.
func (s *Server) parts(doc *huma.OpenAPI) []part {
	var parts []part
	for _, tag := range doc.Tags {
		p := part{Name: tag.Name, About: tag.Description}
		for _, rt := range s.routes {
			if rt.tag != tag.Name || rt.hidden {
				continue
			}
			op := operationOf(doc, rt)
			if op == nil {
				continue
			}
			o := operation{Operation: op, Need: needs[rt.need]}
			if op.RequestBody != nil {
				o.Body = contents(op.RequestBody.Content)
			}
			for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
				if status != "default" {
					o.Answers = append(o.Answers, response{status, op.Responses[status].Description, contents(op.Responses[status].Content)})
				}
			}
			p.Operations = append(p.Operations, o)
		}
		parts = append(parts, p)
	}
	return parts
}

// needs says to a reader what a route asks of its caller.
var needs = map[auth.Need]string{
	auth.NeedAdmin: "Needs the scope admin, or the password.",
	auth.NeedUse:   "Needs the scope use, or a key of the sandbox itself.",
	auth.NeedRead:  "Needs the scope read, or a key of the sandbox itself.",
	auth.NeedAny:   "Works with every key, whatever its scope.",
	auth.NeedNone:  "Needs no key.",
}

func operationOf(doc *huma.OpenAPI, rt route) *huma.Operation {
	item := doc.Paths[humaPath(rt.path)]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{"GET": item.Get, "PUT": item.Put, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete, "HEAD": item.Head}[rt.method]
}

func contents(m map[string]*huma.MediaType) []content {
	var list []content
	for _, kind := range slices.Sorted(maps.Keys(m)) {
		list = append(list, content{kind, m[kind].Schema})
	}
	return list
}

// namedType is an object that the documentation describes once.
type namedType struct {
	Name   string
	Schema *huma.Schema
	Fields []field
}

type field struct {
	Name     string
	Schema   *huma.Schema
	Required bool
}

func types(doc *huma.OpenAPI) []namedType {
	all := doc.Components.Schemas.Map()
	var list []namedType
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t := namedType{Name: name, Schema: all[name]}
		for _, f := range slices.Sorted(maps.Keys(t.Schema.Properties)) {
			t.Fields = append(t.Fields, field{f, t.Schema.Properties[f], slices.Contains(t.Schema.Required, f)})
		}
		list = append(list, t)
	}
	return list
}

// typeName is a schema in a word or two; those with a name are links.
func typeName(s *huma.Schema) template.HTML {
	if s == nil {
		return ""
	}
	esc := template.HTMLEscapeString
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return template.HTML(`<a href="#type-` + esc(name) + `">` + esc(name) + `</a>`)
	}
	switch {
	case s.Type == huma.TypeArray:
		return "list of " + typeName(s.Items)
	case len(s.OneOf) > 0:
		var kinds []string
		for _, one := range s.OneOf {
			kinds = append(kinds, string(typeName(one)))
		}
		return template.HTML(strings.Join(kinds, " or "))
	case s.Type == huma.TypeObject:
		if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
			return "object of " + typeName(values)
		}
	case s.Format != "" && s.Type == huma.TypeString:
		return template.HTML(esc(s.Format))
	}
	return template.HTML(esc(s.Type))
}
