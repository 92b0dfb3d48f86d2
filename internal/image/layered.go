package image

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/bandsox/bandsox/internal/wire"
	"golang.org/x/sync/errgroup"
)

// parallelDownloads is what docker uses, and registries expect.
const parallelDownloads = 3

// layered is the content of an image of layers, lowest first.
type layered struct {
	layers []*layer
	meter  *meter
	after  func() error // frees what the blobs are read from; may be nil
}

func newLayered(blobs []blob, what string, o Options, after func() error) *layered {
	c := &layered{after: after, meter: &meter{what: what, tell: o.Progress}}
	byName := map[string]*layer{} // the same layer may come twice
	for _, b := range blobs {
		l := byName[b.name]
		if l == nil {
			l = &layer{blob: b, scratch: o.Scratch, seen: c.meter.add}
			byName[b.name] = l
			if b.remote {
				c.meter.total += b.size
			}
		}
		c.layers = append(c.layers, l)
	}
	return c
}

// tar downloads and flattens at the same time: Flatten waits for each
// layer that isn't there yet.
func (c *layered) tar(ctx context.Context, w io.Writer, lim Limits) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelDownloads + 1) // and the one that starts them
	bound := make([]Layer, len(c.layers))
	fetch := map[*layer]func() error{}
	for i, l := range c.layers {
		if fetch[l] == nil {
			// Whoever comes first does it, the others get its error.
			fetch[l] = sync.OnceValue(func() error { return l.fetch(gctx) })
		}
		bound[i] = boundLayer{gctx, l, fetch[l]}
	}
	g.Go(func() error {
		for _, l := range c.layers {
			if l.remote && gctx.Err() == nil {
				g.Go(fetch[l])
			}
		}
		return nil
	})
	err := Flatten(ctx, bound, w, lim)
	if err != nil {
		cancel()
	}
	if down := g.Wait(); down != nil && (err == nil || !errors.Is(down, context.Canceled)) {
		err = down
	}
	if err == nil {
		err = c.verified()
	}
	return err
}

// verified makes sure that each layer was read to its end and found right,
// whatever its readers did with the error.
func (c *layered) verified() error {
	for _, l := range c.layers {
		if !l.verified.Load() {
			return wire.Errorf(wire.Internal, "unpacking layer %s: it was not read to its end", l.name)
		}
	}
	return nil
}

func (c *layered) Close() error {
	var errs []error
	for _, l := range c.layers {
		errs = append(errs, l.close())
	}
	if c.after != nil {
		errs = append(errs, c.after())
	}
	return errors.Join(errs...)
}
