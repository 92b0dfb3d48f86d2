package main

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
	"github.com/bandsox/bandsox/internal/store"
)

// house is who makes the microVM: this program, or the server that has the
// state directory already. Their methods are the same; what they return differs.
type house struct {
	images
	create func(ctx context.Context, o bandsox.CreateOptions) (box, error)
	server string // where it is, if there is one
}

type images interface {
	Pull(ctx context.Context, ref string) (bandsox.Image, error)
	Image(ctx context.Context, ref string) (bandsox.Image, error)
	Close() error
}

// box is a sandbox of either.
type box struct {
	Info      func(ctx context.Context) (bandsox.Info, error)
	Delete    func(ctx context.Context) error
	WriteFile func(ctx context.Context, path string, data []byte, perm fs.FileMode) error
	ReadFile  func(ctx context.Context, path string) ([]byte, error)
	Run       func(ctx context.Context, out io.Writer, name string, args ...string) error
	Shell     func(ctx context.Context, script string) ([]byte, error)
}

// open takes the state directory, or finds the server that has it.
func open(ctx context.Context) (house, error) {
	m, err := bandsox.Open(ctx, bandsox.Config{Progress: progress})
	if err == nil {
		return house{images: m, create: func(ctx context.Context, o bandsox.CreateOptions) (box, error) {
			sb, err := m.Create(ctx, o)
			if err != nil {
				return box{}, err
			}
			return near(sb), nil
		}}, nil
	}
	dir, dirErr := store.DefaultDir()
	if dirErr != nil || !errors.Is(err, bandsox.ErrConflict) {
		return house{}, err
	}
	socket := "unix://" + store.Layout(dir).Socket()
	c, dialErr := client.Dial(ctx, socket, client.Options{})
	if dialErr != nil {
		return house{}, err // whoever has the directory is no server
	}
	return house{images: c, server: socket, create: func(ctx context.Context, o bandsox.CreateOptions) (box, error) {
		sb, err := c.Create(ctx, o)
		if err != nil {
			return box{}, err
		}
		return far(sb), nil
	}}, nil
}

func near(sb *bandsox.Sandbox) box {
	return box{Info: sb.Info, Delete: sb.Delete, WriteFile: sb.WriteFile, ReadFile: sb.ReadFile,
		Run: func(ctx context.Context, out io.Writer, name string, args ...string) error {
			cmd := sb.Command(name, args...)
			cmd.Stdout, cmd.Stderr = out, out
			return cmd.Run(ctx)
		},
		Shell: func(ctx context.Context, script string) ([]byte, error) { return sb.Shell(script).Output(ctx) }}
}

func far(sb *client.Sandbox) box {
	return box{Info: sb.Info, Delete: sb.Delete, WriteFile: sb.WriteFile, ReadFile: sb.ReadFile,
		Run: func(ctx context.Context, out io.Writer, name string, args ...string) error {
			cmd := sb.Command(name, args...)
			cmd.Stdout, cmd.Stderr = out, out
			return cmd.Run(ctx)
		},
		Shell: func(ctx context.Context, script string) ([]byte, error) { return sb.Shell(script).Output(ctx) }}
}
