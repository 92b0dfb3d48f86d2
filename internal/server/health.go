package server

import (
	"context"

	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
)

var healthRoutes = []route{
	{method: "GET", path: "/healthz", need: auth.NeedNone, tag: tagHouse, summary: "Whether the server answers", do: call((*Server).healthz)},
}

func (s *Server) healthz(context.Context, *struct{}) (*answer[api.Status], error) {
	return status("ok"), nil
}
