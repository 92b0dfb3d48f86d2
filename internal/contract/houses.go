package contract

import (
	"context"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// Library is a manager in this process.
func Library(m *bandsox.Manager) House { return near{m} }

// Client is a manager behind a server.
func Client(c *client.Client) House { return far{c} }

type near struct{ *bandsox.Manager }

type nearBox struct{ *bandsox.Sandbox }

func (h near) Create(ctx context.Context, o bandsox.CreateOptions) (Box, error) {
	sb, err := h.Manager.Create(ctx, o)
	if err != nil {
		return nil, err
	}
	return nearBox{sb}, nil
}

func (h near) Get(ctx context.Context, ref string) (Box, error) {
	sb, err := h.Manager.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return nearBox{sb}, nil
}

type far struct{ *client.Client }

type farBox struct{ *client.Sandbox }

func (h far) Create(ctx context.Context, o bandsox.CreateOptions) (Box, error) {
	sb, err := h.Client.Create(ctx, o)
	if err != nil {
		return nil, err
	}
	return farBox{sb}, nil
}

func (h far) Get(ctx context.Context, ref string) (Box, error) {
	sb, err := h.Client.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return farBox{sb}, nil
}
