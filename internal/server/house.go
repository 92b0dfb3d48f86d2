package server

import (
	"context"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

var houseRoutes = []route{
	{method: "GET", path: "/api/doctor", need: auth.NeedAdmin, tag: tagHouse, summary: "What the server's host can do, found out by trying it", do: call((*Server).doctor)},
	{method: "GET", path: "/api/usage", need: auth.NeedRead, tag: tagHouse, summary: "What the state directory takes of the disk, and for what", do: call((*Server).usage)},
	{method: "POST", path: "/api/shutdown", need: auth.NeedAdmin, tag: tagHouse, summary: "End the server; sandboxes go on, and the next server finds them", do: call((*Server).shutDown)},
	{method: "POST", path: "/api/cleanup", need: auth.NeedAdmin, tag: tagHouse, summary: "Reclaim what killed processes left behind", do: call((*Server).cleanup)},
}

func (s *Server) doctor(ctx context.Context, _ *struct{}) (*answer[bandsox.Report], error) {
	report, err := bandsox.Doctor(ctx, bandsox.DoctorOptions{Storage: s.m.Storage()})
	return answered(report), err
}

func (s *Server) usage(ctx context.Context, _ *struct{}) (*answer[bandsox.DiskUsage], error) {
	u, err := s.m.Usage(ctx)
	return answered(u), err
}

func (s *Server) shutDown(context.Context, *struct{}) (*answer[api.Status], error) {
	if s.shutdown == nil {
		return nil, wire.Errorf(wire.Unavailable, "this server is part of a program, which ends it")
	}
	s.shutdown()
	return status("stopping"), nil
}

func (s *Server) cleanup(ctx context.Context, in *struct{ Body api.Cleanup }) (*answer[[]bandsox.Leftover], error) {
	list, err := s.m.Cleanup(ctx, in.Body.DryRun)
	if list == nil {
		list = []bandsox.Leftover{}
	}
	return answered(list), err
}
