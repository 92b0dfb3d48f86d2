package server

import (
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// tags are the parts of the documentation, in its order.
var tags = []*huma.Tag{
	{Name: tagVMs, Description: "Sandboxes: microVMs made from container images."},
}

const tagVMs = "Sandboxes"

// routes is all there is, by what it is about.
func routes() []route {
	return slices.Concat(vmRoutes)
}
