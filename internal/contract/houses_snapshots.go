package contract

import (
	"context"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func (h near) SnapshotOf(ctx context.Context, ref string) (Shot, error) {
	s, err := h.Manager.SnapshotOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	return nearShot{s}, nil
}

func (b nearBox) Snapshot(ctx context.Context, o bandsox.SnapshotOptions) (Shot, error) {
	s, err := b.Sandbox.Snapshot(ctx, o)
	if err != nil {
		return nil, err
	}
	return nearShot{s}, nil
}

func (b nearBox) Fork(ctx context.Context, n int, o bandsox.ForkOptions) ([]Box, error) {
	list, err := b.Sandbox.Fork(ctx, n, o)
	var boxes []Box
	for _, sb := range list {
		boxes = append(boxes, nearBox{sb})
	}
	return boxes, err
}

type nearShot struct{ *bandsox.Snapshot }

func (s nearShot) Restore(ctx context.Context, o bandsox.RestoreOptions) (Box, error) {
	sb, err := s.Snapshot.Restore(ctx, o)
	if err != nil {
		return nil, err
	}
	return nearBox{sb}, nil
}

func (h far) SnapshotOf(ctx context.Context, ref string) (Shot, error) {
	s, err := h.Client.SnapshotOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	return farShot{s}, nil
}

func (b farBox) Snapshot(ctx context.Context, o bandsox.SnapshotOptions) (Shot, error) {
	s, err := b.Sandbox.Snapshot(ctx, o)
	if err != nil {
		return nil, err
	}
	return farShot{s}, nil
}

func (b farBox) Fork(ctx context.Context, n int, o bandsox.ForkOptions) ([]Box, error) {
	list, err := b.Sandbox.Fork(ctx, n, o)
	var boxes []Box
	for _, sb := range list {
		boxes = append(boxes, farBox{sb})
	}
	return boxes, err
}

type farShot struct{ *client.Snapshot }

func (s farShot) Restore(ctx context.Context, o bandsox.RestoreOptions) (Box, error) {
	sb, err := s.Snapshot.Restore(ctx, o)
	if err != nil {
		return nil, err
	}
	return farBox{sb}, nil
}
