package vmtest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// life is one machine from its boot to its end, in a directory whose name is
// longer than a socket's address can be.
func (s *suite) life() {
	dir := filepath.Join(s.dir, strings.Repeat("long/", 40), "m")
	m := s.boot(s.Spec(s, "life", dir))
	h := m.Handle()
	if h.Driver != s.driver.Name() || h.ID != "life" || h.Dir != dir || h.PID == 0 || h.StartTime == 0 || h.Version == "" {
		s.Errorf("handle %+v", h)
	}
	c := s.connect(m)
	if hello := c.Hello(); hello.Error != nil || hello.BootID == "" || hello.Kernel == "" {
		s.Errorf("hello %+v", hello)
	}
	out, errs, exit := s.tool(c, "both")
	if out != "out\n" || errs != "err\n" || exit.Code != 3 {
		s.Errorf("got %q, %q, %+v", out, errs, exit)
	}
	s.stdin(c)
	s.pause(m, c)
	if s.Can.Console {
		s.flood(m, c)
	} else if text := s.console(m); !strings.Contains(text, "agent") {
		s.Errorf("the console has no word of the agent: %q", text)
	}
	if m.Err() != nil {
		s.Errorf("it runs, and Err is %v", m.Err())
	}
	for range 2 { // killing a dead machine is no error
		if err := m.Kill(); err != nil {
			s.Fatal(err)
		}
	}
	if err := s.ended(m); err == nil {
		s.Error("a killed machine has ended well")
	}
	s.noSockets(dir)
	if _, err := m.Dial(s.ctx); wire.CodeOf(err) != wire.Unavailable {
		s.Errorf("dialling the dead: %v", err)
	}
	if err := m.Pause(s.ctx); err == nil {
		s.Error("a dead machine was paused")
	}
}

// stdin sends bytes of every kind there and back.
func (s *suite) stdin(c *agent.Client) {
	in := bytes.Repeat([]byte("\x00\xff\r\n\x1b[0mbytes"), 20_000)
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: []string{s.Tool, "cat"}, Stdin: true})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	go func() {
		_, _ = p.Write(in)
		_ = p.CloseStdin()
	}()
	var out bytes.Buffer
	exit, err := p.Copy(&out, io.Discard)
	if err != nil || exit.Code != 0 || !bytes.Equal(out.Bytes(), in) {
		s.Errorf("sent %d bytes, got %d back; %+v, %v", len(in), out.Len(), exit, err)
	}
}

// pause checks that a paused machine's programs stand still, and go on.
func (s *suite) pause(m vm.Machine, c *agent.Client) {
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: []string{s.Tool, "tick"}, KillOnDetach: true})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	got := make(chan int, 1<<16)
	go func() {
		defer close(got)
		for {
			_, b, err := p.Recv()
			if err != nil {
				return
			}
			got <- len(b)
		}
	}()
	some := func() {
		s.Helper()
		select {
		case _, ok := <-got:
			if !ok {
				s.Fatal("the program ended")
			}
		case <-time.After(Timeout):
			s.Fatal("the program stands still")
		}
	}
	some()
	for range 2 { // pausing a paused machine is no error, nor is resuming twice
		if err := m.Pause(s.ctx); err != nil {
			s.Fatal(err)
		}
	}
	quiet := time.NewTimer(300 * time.Millisecond) // what was on its way arrives first
	for waiting := true; waiting; {
		select {
		case <-got:
		case <-quiet.C:
			waiting = false
		}
	}
	select {
	case <-got:
		s.Error("a program of a paused machine goes on")
	case <-time.After(300 * time.Millisecond):
	}
	for range 2 {
		if err := m.Resume(s.ctx); err != nil {
			s.Fatal(err)
		}
	}
	some()
}

// flood prints more than is kept of a console, and reads its end.
func (s *suite) flood(m vm.Machine, c *agent.Client) {
	if text := s.console(m); s.Can.Kernel && !strings.Contains(text, "bandsox") && !strings.Contains(text, "Linux") {
		s.Errorf("the console has no word of kernel or agent: %q", text)
	}
	kib := "2048"
	if s.driver.Traits().SlowConsole {
		kib = "16"
	}
	for i := range 3 {
		word := fmt.Sprintf("last-word-%d", i)
		if _, errs, exit := s.tool(c, "print", kib, word); exit.Code != 0 {
			s.Fatalf("printing: %s", errs)
		}
		// The program has ended when the tty has taken its words, not the ring.
		deadline := time.Now().Add(Timeout)
		text := s.console(m)
		for !strings.Contains(text, word) && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
			text = s.console(m)
		}
		if !strings.Contains(text, word) {
			s.Errorf("the console lacks its last word %q", word)
		}
		if len(text) > 2<<20 {
			s.Errorf("the console has %d bytes", len(text))
		}
	}
	var size int64
	for _, path := range glob(s.T, filepath.Join(m.Handle().Dir, "*.log")) {
		if st, err := os.Stat(path); err == nil {
			size += st.Size()
		}
	}
	if size > 2<<20 {
		s.Errorf("the console made %d bytes of logs", size)
	}
}

// adopt passes a machine from one manager to another, with a program running.
func (s *suite) adopt() {
	m := s.boot(s.Spec(s, "adopted", s.dir))
	c := s.connect(m)
	p, err := c.Start(s.ctx, wire.StartRequest{ID: "ticker", Argv: []string{s.Tool, "tick"}})
	if err != nil {
		s.Fatal(err)
	}
	if _, _, err := p.Recv(); err != nil {
		s.Fatal(err)
	}
	bootID := c.Hello().BootID
	if err := c.Close(); err != nil {
		s.Error(err)
	}
	if err := m.Release(); err != nil {
		s.Fatal(err)
	}
	for range 2 {
		driver := s.newDriver()
		found, err := driver.Find(s.ctx, filepath.Dir(s.dir))
		if err != nil || len(found) != 1 || found[0].PID != m.Handle().PID || found[0].StartTime != m.Handle().StartTime || found[0].Dir != s.dir {
			s.Fatalf("found %+v, %v; want %+v", found, err, m.Handle())
		}
		again, err := driver.Adopt(s.ctx, m.Handle())
		if err != nil {
			s.Fatal(err)
		}
		c := s.connect(again)
		if id := c.Hello().BootID; id != bootID {
			s.Errorf("boot id %q became %q", bootID, id)
		}
		p, err := c.Attach(s.ctx, wire.AttachRequest{Process: "ticker"})
		if err != nil {
			s.Fatal(err)
		}
		if _, _, err := p.Recv(); err != nil {
			s.Error(err)
		}
		s.pause(again, c)
		if text := s.console(again); text == "" {
			s.Error("the console is empty")
		}
		_ = c.Close()
		if err := again.Release(); err != nil {
			s.Error(err)
		}
	}
	last, err := s.newDriver().Adopt(s.ctx, m.Handle())
	if err != nil {
		s.Fatal(err)
	}
	if err := last.Kill(); err != nil {
		s.Fatal(err)
	}
	if err := s.ended(last); err == nil {
		s.Error("a killed machine has ended well")
	}
	s.noSockets(s.dir)
}
