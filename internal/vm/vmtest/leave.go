package vmtest

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// leavers are programs that close their output before they end, and such that
// leave others who don't: in both cases their end is their end.
func (s *suite) leavers() {
	c := s.connect(s.boot(s.Spec(s, "leavers", s.dir)))
	if out, errs, exit := s.tool(c, "hush"); out != "" || errs != "" || exit.Code != 7 {
		s.Errorf("one that closed everything: %q, %q, %+v", out, errs, exit)
	}
	p, err := c.Start(s.ctx, wire.StartRequest{ID: "daemon", Argv: []string{s.Tool, "daemon"}})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	var out, errs bytes.Buffer
	exit, err := p.Copy(&out, &errs)
	if err != nil || exit.Code != 5 || !strings.Contains(out.String(), "left\n") {
		s.Errorf("one that left a daemon: %q, %q, %+v, %v", out.String(), errs.String(), exit, err)
	}
	if !s.Can.Kernel {
		return // its daemon is one of this host's, and ends with its pipe
	}
	if n := s.count(c); n == 0 {
		s.Error("the daemon is gone with its parent")
	}
	// It is still known whose it was.
	if err := c.Signal(s.ctx, wire.SignalRequest{Process: "daemon", Signal: int(syscall.SIGKILL), All: true}); err != nil {
		s.Error(err)
	}
	s.await("the daemon ends", func() bool { return s.count(c) == 0 })
}

// replay: a host that lost its connection goes on where it was, or begins
// again, and misses nothing.
func (s *suite) replay() {
	m := s.boot(s.Spec(s, "replay", s.dir))
	c := s.connect(m)
	p, err := c.Start(s.ctx, wire.StartRequest{ID: "ticker", Argv: []string{s.Tool, "tick"}})
	if err != nil {
		s.Fatal(err)
	}
	var got bytes.Buffer
	s.some(p, &got, 100)
	if p.Offset() != int64(got.Len()) {
		s.Errorf("%d bytes came, and the offset is %d", got.Len(), p.Offset())
	}
	if err := c.Close(); err != nil {
		s.Error(err)
	}
	c = s.connect(m)
	for _, offset := range []int64{int64(got.Len()), int64(got.Len()) - 1, 0} {
		p, err := c.Attach(s.ctx, wire.AttachRequest{Process: "ticker", Offset: offset})
		if err != nil {
			s.Fatal(err)
		}
		if at := p.Started().Offset; at != offset {
			s.Fatalf("attached at %d, not %d", at, offset)
		}
		got.Truncate(int(offset))
		s.some(p, &got, int(offset)+100)
		_ = p.Close()
	}
	var want bytes.Buffer
	for i := 0; want.Len() < got.Len(); i++ {
		fmt.Fprintln(&want, i)
	}
	if !bytes.HasPrefix(want.Bytes(), got.Bytes()) {
		s.Errorf("the parts make %q", got.String())
	}
}

// some receives output until there are n bytes of it.
func (s *suite) some(p *agent.Process, to io.Writer, n int) {
	s.Helper()
	for p.Offset() < int64(n) {
		_, b, err := p.Recv()
		if err != nil {
			s.Fatal(err)
		}
		if _, err := to.Write(b); err != nil {
			s.Fatal(err)
		}
	}
}
