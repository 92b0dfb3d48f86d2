package vmtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// Run is the contract of a driver, with a real agent in every machine. Each
// call of newDriver stands for another manager.
func Run(t *testing.T, newDriver func() vm.Driver, e Env) {
	for _, c := range []struct {
		name  string
		needs bool
		test  func(*suite)
	}{
		{"Life", true, (*suite).life},
		{"KilledWhileStreaming", true, (*suite).killedWhileStreaming},
		{"GuestPowersOff", true, (*suite).guestPowersOff},
		{"GuestRestarts", e.Can.Kernel, (*suite).guestRestarts},
		{"GuestPanics", e.Can.Kernel, (*suite).guestPanics},
		{"Adopt", true, (*suite).adopt},
		{"EndsUnwatched", true, (*suite).endsUnwatched},
		{"Gone", true, (*suite).gone},
		{"BadSpec", true, (*suite).badSpec},
		{"BadKernel", e.Can.Kernel, (*suite).badKernel},
		{"SurvivesKill", e.Can.Drives, (*suite).survivesKill},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.needs {
				t.Skip("needs a machine that can do it: " + newDriver().Name() + " can't")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			c.test(&suite{T: t, Env: e, ctx: ctx, driver: newDriver(), newDriver: newDriver, dir: t.TempDir()})
		})
	}
}

type suite struct {
	*testing.T
	Env
	ctx       context.Context
	driver    vm.Driver
	newDriver func() vm.Driver
	dir       string
}

// boot starts a machine, which ends with the test.
func (s *suite) boot(spec vm.Spec) vm.Machine {
	s.Helper()
	m, err := s.driver.Boot(s.ctx, spec)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { s.end(m.Handle()) })
	return m
}

// end kills whatever is left of a machine, whoever has it.
func (s *suite) end(h vm.Handle) {
	m, err := s.newDriver().Adopt(context.Background(), h)
	if err == nil {
		err = m.Kill()
	}
	if err != nil && wire.CodeOf(err) != wire.NotFound {
		s.Errorf("ending the machine: %v", err)
	}
}

// connect shakes hands with a machine's agent.
func (s *suite) connect(m vm.Machine) *agent.Client {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, Timeout)
	defer cancel()
	c, err := agent.Connect(ctx, m.Dial)
	if err != nil {
		s.Fatalf("%v\nthe console:\n%s", err, s.console(m))
	}
	s.Cleanup(func() { c.Close() })
	return c
}

// tool runs the tool to its end.
func (s *suite) tool(c *agent.Client, args ...string) (stdout, stderr string, exit wire.Exit) {
	s.Helper()
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: append([]string{s.Tool}, args...)})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	var out, errs bytes.Buffer
	exit, err = p.Copy(&out, &errs)
	if err != nil {
		s.Fatalf("%v: %v", args, err)
	}
	return out.String(), errs.String(), exit
}

func (s *suite) console(m vm.Machine) string {
	r, err := m.Console(s.ctx)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// ended waits for a machine's end and returns why it was.
func (s *suite) ended(m vm.Machine) error {
	s.Helper()
	select {
	case <-m.Done():
		return m.Err()
	case <-time.After(Timeout):
		s.Fatalf("the machine goes on; its console:\n%s", s.console(m))
		return nil
	}
}

// noSockets checks that a machine's end left nobody to wait for.
func (s *suite) noSockets(dir string) {
	s.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range entries {
		if e.Type() == os.ModeSocket {
			s.Errorf("socket %s was left behind", e.Name())
		}
	}
	found, err := s.newDriver().Find(s.ctx, dir)
	if err != nil || len(found) > 0 {
		s.Errorf("machines left behind: %v, %v", found, err)
	}
}

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
	for i := range 3 {
		word := fmt.Sprintf("last-word-%d", i)
		if _, errs, exit := s.tool(c, "print", "2", word); exit.Code != 0 {
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
		s.Errorf("6 MiB on the console made %d bytes of logs", size)
	}
}

// killedWhileStreaming: who reads a program's output learns of the machine's
// end, and never takes it for the program's.
func (s *suite) killedWhileStreaming() {
	m := s.boot(s.Spec(s, "streaming", s.dir))
	c := s.connect(m)
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: []string{s.Tool, "tick"}})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	if _, _, err := p.Recv(); err != nil {
		s.Fatal(err)
	}
	type end struct {
		exit wire.Exit
		err  error
	}
	ends := make(chan end, 1)
	go func() {
		exit, err := p.Copy(io.Discard, io.Discard)
		ends <- end{exit, err}
	}()
	// As the kernel would for want of memory: not through the driver.
	victim, err := os.FindProcess(m.Handle().PID)
	if err != nil {
		s.Fatal(err)
	}
	began := time.Now()
	if err := victim.Kill(); err != nil {
		s.Fatal(err)
	}
	select {
	case e := <-ends:
		s.Logf("the caller knew after %v: %v", time.Since(began), e.err)
		if e.err == nil || wire.CodeOf(e.err) != wire.Unavailable {
			s.Errorf("got exit %+v, %v", e.exit, e.err)
		}
	case <-time.After(Timeout):
		s.Fatal("the caller hangs")
	}
	if err := s.ended(m); err == nil || wire.CodeOf(err) != wire.Unavailable {
		s.Errorf("Err is %v", err)
	}
	s.noSockets(s.dir)
}

// guestPowersOff is the one end that is no error.
func (s *suite) guestPowersOff() {
	m := s.boot(s.Spec(s, "off", s.dir))
	c := s.connect(m)
	if err := c.Shutdown(s.ctx, time.Second); err != nil {
		s.Fatal(err)
	}
	if err := s.ended(m); err != nil {
		s.Errorf("%v\n%s", err, s.console(m))
	}
	s.noSockets(s.dir)
	if err := m.Kill(); err != nil {
		s.Error(err)
	}
	if text := s.console(m); text == "" {
		s.Error("the console is empty after the end")
	}
}

// guestRestarts: a guest that restarts itself has ended as well as one that
// powers off.
func (s *suite) guestRestarts() {
	m := s.boot(s.Spec(s, "restart", s.dir))
	c := s.connect(m)
	s.last(c, "reboot")
	if err := s.ended(m); err != nil {
		s.Errorf("%v\n%s", err, s.console(m))
	}
}

// guestPanics: the kernel's last words are kept, and named.
func (s *suite) guestPanics() {
	m := s.boot(s.Spec(s, "panic", s.dir))
	c := s.connect(m)
	s.last(c, "sysrq", "c")
	if err := s.ended(m); err == nil || !strings.Contains(err.Error(), "panic") {
		s.Errorf("Err is %v", err)
	}
	if text := s.console(m); !strings.Contains(text, "Kernel panic") {
		s.Errorf("the console lacks the panic: %q", text)
	}
}

// last runs a tool that ends the machine, and so never ends itself.
func (s *suite) last(c *agent.Client, args ...string) {
	s.Helper()
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: append([]string{s.Tool}, args...)})
	if err != nil {
		if wire.CodeOf(err) != wire.Unavailable {
			s.Fatal(err)
		}
		return
	}
	var errs bytes.Buffer
	if exit, err := p.Copy(io.Discard, &errs); err == nil {
		s.Fatalf("%v ended with %+v: %s", args, exit, errs.String())
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

// endsUnwatched: a machine that ends between two managers is gone, or says how
// it ended; it is not there for ever.
func (s *suite) endsUnwatched() {
	m := s.boot(s.Spec(s, "unwatched", s.dir))
	c := s.connect(m)
	if err := m.Release(); err != nil {
		s.Fatal(err)
	}
	if err := c.Shutdown(s.ctx, time.Second); err != nil {
		s.Fatal(err)
	}
	_ = c.Close()
	again, err := s.newDriver().Adopt(s.ctx, m.Handle())
	if err == nil {
		if err := s.ended(again); err != nil {
			s.Error(err)
		}
	} else if wire.CodeOf(err) != wire.NotFound {
		s.Error(err)
	}
	found, err := s.newDriver().Find(s.ctx, s.dir)
	if err != nil || len(found) > 0 {
		s.Errorf("left behind: %v, %v", found, err)
	}
}

// gone: a handle whose process has ended, or is another one now, is no machine.
func (s *suite) gone() {
	spec := s.Spec(s, "gone", s.dir)
	m := s.boot(spec)
	h := m.Handle()
	other := h
	other.StartTime++
	stranger := h
	stranger.PID = os.Getpid()
	for _, bad := range []vm.Handle{other, stranger} {
		if _, err := s.driver.Adopt(s.ctx, bad); wire.CodeOf(err) != wire.NotFound {
			s.Errorf("adopting %+v: %v", bad, err)
		}
	}
	dialled := make(chan error, 1)
	go func() { // nobody answers hello there: the machine is killed
		conn, err := m.Dial(s.ctx)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		dialled <- err
	}()
	if err := m.Kill(); err != nil {
		s.Fatal(err)
	}
	select {
	case err := <-dialled:
		if err == nil {
			s.Error("a dead machine spoke")
		}
	case <-time.After(Timeout):
		s.Error("dialling a dead machine hangs")
	}
	if _, err := s.driver.Adopt(s.ctx, h); wire.CodeOf(err) != wire.NotFound {
		s.Errorf("adopting the dead: %v", err)
	}
}

// badSpec: what can't boot says why, and leaves nothing.
func (s *suite) badSpec() {
	spec := s.Spec(s, "bad", s.dir)
	spec.Drives = append(spec.Drives, vm.Drive{Path: filepath.Join(s.dir, "missing, really")})
	s.refused(spec, wire.NotFound)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	spec = s.Spec(s, "late", filepath.Join(s.dir, "late"))
	if m, err := s.driver.Boot(ctx, spec); err == nil {
		if err := m.Kill(); err != nil { // it was sooner than the caller
			s.Error(err)
		}
	}
	s.noSockets(spec.Dir)
}

// badKernel: half a kernel, and something else.
func (s *suite) badKernel() {
	whole, err := os.ReadFile(s.Kernel)
	if err != nil {
		s.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"half": whole[:len(whole)/2], "header": whole[:64], "empty": nil, "text": []byte("a kernel\n"), "zeros": make([]byte, 1<<20),
	} {
		spec := s.Spec(s, "bad-"+name, filepath.Join(s.dir, name))
		spec.Kernel = filepath.Join(s.dir, name, "kernel")
		if err := os.WriteFile(spec.Kernel, content, 0o600); err != nil {
			s.Fatal(err)
		}
		s.refused(spec, wire.Invalid)
	}
	spec := s.Spec(s, "bad-none", filepath.Join(s.dir, "none"))
	spec.Kernel = filepath.Join(s.dir, "none", "kernel")
	s.refused(spec, wire.NotFound)
}

func (s *suite) refused(spec vm.Spec, code wire.Code) {
	s.Helper()
	m, err := s.driver.Boot(s.ctx, spec)
	if err == nil {
		_ = m.Kill()
		s.Errorf("%s booted", spec.ID)
		return
	}
	s.Logf("%v", err)
	if wire.CodeOf(err) != code {
		s.Errorf("%s: %v has code %s, want %s", spec.ID, err, wire.CodeOf(err), code)
	}
	s.noSockets(spec.Dir)
}

// survivesKill: what a program flushed is there after the machine's death, the
// file system is whole, and the base is what it was.
func (s *suite) survivesKill() {
	before := s.hash(s.Base)
	spec := s.Spec(s, "first", s.dir)
	m := s.boot(spec)
	c := s.connect(m)
	if _, errs, exit := s.tool(c, "write", "/etc/kept", "flushed"); exit.Code != 0 {
		s.Fatal(errs)
	}
	// Replacing a file of the base goes to the disk, too.
	if _, errs, exit := s.tool(c, "write", "/tmp/more", strings.Repeat("more", 1000)); exit.Code != 0 {
		s.Fatal(errs)
	}
	if err := m.Kill(); err != nil {
		s.Fatal(err)
	}
	disk := spec.Drives[1].Path
	if out, err := exec.CommandContext(s.ctx, "e2fsck", "-p", disk).CombinedOutput(); err != nil {
		var ee *exec.ExitError
		if !errors.As(err, &ee) || ee.ExitCode() != 1 { // 1: it was mended, here by its journal
			s.Errorf("e2fsck -p: %v\n%s", err, out)
		}
	}
	if out, err := exec.CommandContext(s.ctx, "e2fsck", "-fn", disk).CombinedOutput(); err != nil {
		s.Errorf("e2fsck -fn: %v\n%s", err, out)
	}
	spec.ID = "second"
	c = s.connect(s.boot(spec))
	_, r, err := c.Read(s.ctx, wire.ReadRequest{Path: "/etc/kept"})
	if err != nil {
		s.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "flushed" {
		s.Errorf("the file has %q, %v", b, err)
	}
	if s.hash(s.Base) != before {
		s.Error("the base was written to")
	}
}

func (s *suite) hash(path string) [32]byte {
	s.Helper()
	f, err := os.Open(path)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		s.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
