package server

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// openAPI is what the document says before there are routes.
func openAPI(version string) huma.Config {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[bandsox.Epoch](), reflect.TypeFor[epoch]())
	schemas.RegisterTypeAlias(reflect.TypeFor[api.Detail](), reflect.TypeFor[detail]())
	schemas.RegisterTypeAlias(reflect.TypeFor[api.Env](), reflect.TypeFor[environment]())
	schemas.RegisterTypeAlias(reflect.TypeFor[api.Signal](), reflect.TypeFor[signal]())
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "BandSox", Version: version,
				Description: "MicroVM sandboxes: make them from container images, run programs in them, move files, throw them away. " +
					"An id in a path may be a sandbox's name too. While a server has no keys, none is needed. Errors have a detail, a code and often a hint.",
				License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key":     {Type: "http", Scheme: "bearer", Description: "An API key, as bandsox auth create-key makes it."},
					"session": {Type: "apiKey", In: "cookie", Name: "bandsox_session", Description: "What POST /api/auth/login sets."},
				},
			},
			Security: []map[string][]string{{"key": {}}, {"session": {}}},
			Tags:     tags,
		},
		Formats:       map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat: "application/json",
	}
}

// documentErrors says what an operation answers when it fails.
func (s *Server) documentErrors(op *huma.Operation) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = &huma.Response{Description: "What went wrong", Content: map[string]*huma.MediaType{
		"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Error](), true, "Error")},
	}}
}

// epoch and detail are how types of ours look that marshal themselves.
type (
	epoch       struct{}
	detail      struct{}
	environment struct{}
	signal      struct{}
)

func (environment) Schema(huma.Registry) *huma.Schema {
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} } // huma writes in it, for each server
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeArray, Items: text()}, {Type: huma.TypeObject, AdditionalProperties: text()}},
		Description: "KEY=value each, or an object"}
}

func (signal) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeInteger, Minimum: &firstSignal, Maximum: &lastSignal}, {Type: huma.TypeString}}}
}

var firstSignal, lastSignal = 1.0, 64.0

func (epoch) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeNumber, Format: "double", Description: "Seconds since 1970"}
}

func (detail) Schema(r huma.Registry) *huma.Schema {
	problem := r.Schema(reflect.TypeFor[api.Problem](), true, "Problem")
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeArray, Items: problem}},
		Description: "A sentence, or what is wrong with each part of the request"}
}

// param is a parameter of a raw route's query.
func param(name string, schema *huma.Schema, required bool, about string) *huma.Param {
	return &huma.Param{Name: name, In: "query", Schema: schema, Required: required, Description: about}
}

var (
	aString = &huma.Schema{Type: huma.TypeString}
	aBool   = &huma.Schema{Type: huma.TypeBoolean}
	anInt   = &huma.Schema{Type: huma.TypeInteger, Format: "int64"}
)

// vmParam is {id} in a raw route's path.
func vmParam() *huma.Param {
	return &huma.Param{Name: "id", In: "path", Required: true, Schema: aString, Description: "The sandbox's id or name"}
}
