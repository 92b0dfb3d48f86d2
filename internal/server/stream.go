package server

import (
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// copyOut writes all of r to the answer.
func copyOut(w http.ResponseWriter, r io.Reader) error {
	_, err := io.Copy(w, r)
	return err
}

// textDoc documents a raw route about one sandbox that answers with text.
func textDoc(op *huma.Operation, _ huma.Registry) {
	op.Parameters = append(op.Parameters, vmParam())
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"text/plain": {Schema: aString}}}}
}

// pairs reads KEY=VALUE parameters.
func pairs(what string, list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, invalid("%s %q: must be KEY=VALUE", what, s)
		}
		m[k] = v
	}
	return m, nil
}
