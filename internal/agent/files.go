package agent

import (
	"context"
	"io"

	"github.com/bandsox/bandsox/internal/wire"
)

// chunk is how much of a file is in hand at a time: what one frame carries.
const chunk = wire.MaxData

// Read opens a regular file of the guest. ctx is for all of the reading. The
// reader returns io.EOF only after the guest said that this was all.
func (c *Client) Read(ctx context.Context, r wire.ReadRequest) (wire.Stat, io.ReadCloser, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpRead, Read: &r})
	if err != nil {
		return wire.Stat{}, nil, err
	}
	st.CloseSend()
	stat, err := expect(ctx, st, "read", pickStat)
	if err != nil {
		st.Close()
		return wire.Stat{}, nil, err
	}
	return *stat, &reader{ctx: ctx, st: st}, nil
}

type reader struct {
	ctx  context.Context
	st   *wire.Stream
	rest []byte // of the last message: valid until the next is received
	n    int64
	err  error
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil && len(p) > 0 {
		r.err = r.receive()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo writes what is left to w, each message from where it lies.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if len(r.rest) > 0 {
			k, err := w.Write(r.rest)
			n += int64(k)
			r.rest = r.rest[k:]
			if err == nil && len(r.rest) > 0 {
				err = io.ErrShortWrite
			}
			if err != nil {
				return n, err
			}
		}
		if r.err == nil {
			r.err = r.receive()
		}
		if r.err != nil && len(r.rest) == 0 {
			return n, notEOF(r.err)
		}
	}
}

// receive takes the next message: data, or the end.
func (r *reader) receive() error {
	kind, b, err := r.st.RecvContext(r.ctx)
	switch {
	case err == io.EOF:
		return broken("read")
	case err != nil:
		return err
	case kind != wire.KindControl:
		r.rest = b
		r.n += int64(len(b))
		return nil
	}
	msg, err := wire.ParseControl(b)
	switch {
	case err != nil:
		return err
	case msg.Error != nil:
		return msg.Error
	case msg.Done == nil || msg.Done.Bytes != r.n:
		return wire.Errorf(wire.Internal, "reading a file of the guest: what it sent is not what it says it sent")
	}
	return io.EOF
}

func (r *reader) Close() error {
	r.rest, r.err = nil, io.ErrClosedPipe
	return r.st.Close()
}

// Write writes what src has to a file of the guest, and returns how much that
// was when it is on the guest's disk. On any error the file is as it was
// (unless w.Append). When the guest or ctx fails first, Write does not wait
// for a Read of src that is under way: src may be read once more.
func (c *Client) Write(ctx context.Context, w wire.WriteRequest, src io.Reader) (int64, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpWrite, Write: &w})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	return finishWrite(ctx, st, src)
}

// finishWrite sends src and waits for the guest's word that it has it.
func finishWrite(ctx context.Context, st *wire.Stream, src io.Reader) (int64, error) {
	srcErr := make(chan error, 1)
	go func() {
		if err := send(ctx, st, src); err != nil {
			srcErr <- err
			st.Reset(wire.Errorf(wire.Unavailable, "the source of the file failed"))
		}
	}()
	done, err := expect(ctx, st, "write", pickDone)
	if err != nil {
		select {
		case err = <-srcErr:
		default:
		}
		return 0, err
	}
	return done.Bytes, nil
}

// send sends what src has. Its error is src's: the stream's own are for whoever
// receives the guest's answer.
func send(ctx context.Context, st *wire.Stream, src io.Reader) error {
	buf := make([]byte, chunk)
	for {
		n, err := src.Read(buf)
		if n > 0 && st.SendContext(ctx, wire.KindData, buf[:n]) != nil {
			return nil
		}
		if err == io.EOF {
			st.CloseSend()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Resume is Write of what w.Partial names: open is told how much of it the
// guest has already, and returns what follows that.
func (c *Client) Resume(ctx context.Context, w wire.WriteRequest, open func(have int64) (io.Reader, error)) (int64, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpWrite, Write: &w})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	have, err := expect(ctx, st, "write", pickStat)
	if err != nil {
		return 0, err
	}
	src, err := open(have.Size)
	if err != nil {
		return 0, err
	}
	return finishWrite(ctx, st, src)
}

// Create starts a Write whose content comes by and by. ctx is for all of it.
func (c *Client) Create(ctx context.Context, w wire.WriteRequest) (*Writer, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpWrite, Write: &w})
	if err != nil {
		return nil, err
	}
	return &Writer{ctx: ctx, st: st}, nil
}

// Writer writes a file of the guest, which is as it was until Close.
type Writer struct {
	ctx context.Context
	st  *wire.Stream
	err error
}

// Write sends p. If it fails, the file is as it was.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if err := w.st.SendContext(w.ctx, wire.KindData, p); err != nil {
		w.err = err
		if _, why := expect(w.ctx, w.st, "write", pickDone); why != nil {
			w.err = why // the guest's own words
		}
		w.st.Close()
		return 0, w.err
	}
	return len(p), nil
}

// Close returns when the file is whole and on the guest's disk.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	defer w.st.Close()
	w.st.CloseSend()
	_, err := expect(w.ctx, w.st, "write", pickDone)
	w.err = io.ErrClosedPipe
	return err
}

// Abort leaves the file as it was. After Close it does nothing.
func (w *Writer) Abort() {
	if w.err == nil {
		w.err = io.ErrClosedPipe
		w.st.Reset(wire.Errorf(wire.Unavailable, "the writer gave up"))
	}
}
