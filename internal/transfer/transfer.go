// Package transfer moves files to and from a sandbox, whoever brings their
// bytes: the library asks the agent, its client a server. What they are read by
// and copied by is the same, so that both do the same.
package transfer

import (
	"context"
	"io"

	"github.com/bandsox/bandsox/internal/wire"
)

// Remote is where a sandbox's files can be had.
type Remote interface {
	// Read opens a regular file. Its reader returns io.EOF only at the end of
	// what was asked for.
	Read(ctx context.Context, r wire.ReadRequest) (wire.Stat, io.ReadCloser, error)
	// Write replaces a file by what src has, or leaves it as it was.
	Write(ctx context.Context, w wire.WriteRequest, src io.Reader) (int64, error)
	// Resume is Write of what w.Partial names: open is told how much of it is
	// there, and returns the rest.
	Resume(ctx context.Context, w wire.WriteRequest, open func(have int64) (io.Reader, error)) (int64, error)
}

// Side is a sandbox's files as one of the two sees them.
type Side struct {
	Remote Remote
	ID     string                                 // the sandbox's
	Fail   func(op, path string, err error) error // makes the error that is shown; of nil it is nil
}

func (s *Side) invalid(op, path, format string, args ...any) error {
	return s.Fail(op, path, wire.Errorf(wire.Invalid, format, args...))
}
