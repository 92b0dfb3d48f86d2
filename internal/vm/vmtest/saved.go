package vmtest

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// save saves a machine, restores two at a time from that, saves one of them, and
// restores again: each goes on where it was, and nobody sees what another does.
func (s *suite) save() {
	parent := s.boot(s.Spec(s, "parent", filepath.Join(s.dir, "parent")))
	s.with(parent, func(c *agent.Client) {
		s.put(c, "/of-parent", "1")
		ticks, err := c.Start(s.ctx, wire.StartRequest{ID: "ticks", Argv: []string{s.Tool, "tick"}})
		if err != nil {
			s.Fatal(err)
		}
		s.some(ticks, io.Discard, 10)
	})
	first := s.saveInto(parent, nil, "first")
	s.with(parent, func(c *agent.Client) { s.put(c, "/of-parent", "2") }) // it goes on

	var children [2]vm.Machine
	var wg sync.WaitGroup
	for i, name := range []string{"left", "right"} {
		wg.Go(func() { children[i] = s.restore(name, first) })
	}
	wg.Wait()
	if s.Failed() {
		return
	}
	for i, name := range []string{"left", "right"} {
		s.with(children[i], func(c *agent.Client) {
			s.put(c, "/of-child", name)
			s.ticks(c)
		})
	}
	s.holds(children[0], "/of-child", "left")

	grandchild := s.restore("grandchild", s.saveInto(children[1], first, "second"))
	s.holds(grandchild, "/of-parent", "1")
	s.holds(grandchild, "/of-child", "right")
	s.with(grandchild, s.ticks)
	s.over(grandchild, children[1]) // each takes processor time from the rest

	// A manager that died changes nothing, nor that the machine is paused.
	h := children[0].Handle()
	if err := children[0].Release(); err != nil {
		s.Fatal(err)
	}
	adopted, err := s.newDriver().Adopt(s.ctx, h)
	if err != nil {
		s.Fatal(err)
	}
	child := s.restore("of-adopted", s.saveInto(adopted, first, "third"))
	s.holds(child, "/of-child", "left")
	s.over(child)
	if err := adopted.Pause(s.ctx); err != nil {
		s.Fatal(err)
	}
	child = s.restore("of-paused", s.saveInto(adopted, first, "fourth"))
	s.holds(child, "/of-child", "left")
	s.over(child)

	// What was saved stays that, whatever came of it.
	s.holds(s.restore("sibling", first), "/of-parent", "1")
	s.holds(parent, "/of-parent", "2")
}

// over kills machines that are of no more use.
func (s *suite) over(machines ...vm.Machine) {
	s.Helper()
	for _, m := range machines {
		if err := m.Kill(); err != nil {
			s.Error(err)
		}
	}
}

// with calls f with a connection to the machine's agent.
func (s *suite) with(m vm.Machine, f func(*agent.Client)) {
	s.Helper()
	c := s.connect(m)
	defer c.Close()
	f(c)
}

// holds checks what is in a machine's file.
func (s *suite) holds(m vm.Machine, path, text string) {
	s.Helper()
	s.with(m, func(c *agent.Client) {
		s.Helper()
		_, r, err := c.Read(s.ctx, wire.ReadRequest{Path: path})
		if err != nil {
			s.Fatal(err)
		}
		defer r.Close()
		if b, err := io.ReadAll(r); err != nil || string(b) != text {
			s.Errorf("%s holds %q, want %q; %v", path, b, text, err)
		}
	})
}

// badSaved is what can't be restored: it is refused, and nothing starts.
func (s *suite) badSaved() {
	m := s.boot(s.Spec(s, "saved", filepath.Join(s.dir, "machine")))
	s.with(m, func(*agent.Client) {})
	if _, err := m.Save(s.ctx, vm.SaveOptions{Dir: filepath.Join(s.dir, "nowhere")}); err == nil {
		s.Error("saved into a directory that isn't there")
	}
	s.with(m, func(*agent.Client) {})
	good := s.saveInto(m, nil, "good")
	spec := s.likeSaved("bad", good)
	for _, bad := range []struct {
		what  string
		code  wire.Code
		spoil func(sv *savedMachine)
	}{
		{"driver", wire.Conflict, func(sv *savedMachine) { sv.is.Driver = "other" }},
		{"version", wire.Conflict, func(sv *savedMachine) { sv.is.Version = "0.1" }},
		{"processor", wire.Conflict, func(sv *savedMachine) { sv.is.CPU = "6502" }},
		{"nothing there", wire.NotFound, func(sv *savedMachine) { sv.dir = s.dir }},
	} {
		sv := *good
		bad.spoil(&sv)
		if _, err := s.driver.Restore(s.ctx, spec, sv.dir, sv.is); wire.CodeOf(err) != bad.code {
			s.Errorf("%s: got %v, want %s", bad.what, err, bad.code)
		}
	}
	if found, err := s.driver.Find(s.ctx, spec.Dir); err != nil || len(found) > 0 {
		s.Errorf("left behind: %v, %v", found, err)
	}
	if !s.Can.Kernel {
		return
	}
	for _, cut := range []struct {
		file string
		size int64
	}{{vm.SavedMemory, 1 << 20}, {vm.SavedState, 100}, {vm.SavedState, 0}} {
		path := filepath.Join(good.dir, cut.file)
		whole, err := os.ReadFile(path)
		if err != nil {
			s.Fatal(err)
		}
		if err := os.Truncate(path, cut.size); err != nil {
			s.Fatal(err)
		}
		if got, err := s.driver.Restore(s.ctx, spec, good.dir, good.is); err == nil {
			s.Errorf("restored from %s of %d bytes", cut.file, cut.size)
			_ = got.Kill()
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			s.Fatal(err)
		}
	}
	s.noSockets(spec.Dir)
	s.with(s.boot2(spec, good), func(*agent.Client) {})
}

// savedMachine is one that was saved with its disk.
type savedMachine struct {
	dir string
	is  vm.Saved
}

// saveInto saves m, which was restored from base or booted, by this name.
func (s *suite) saveInto(m vm.Machine, base *savedMachine, name string) *savedMachine {
	s.Helper()
	dir := filepath.Join(s.dir, "saved", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.Fatal(err)
	}
	if base != nil {
		if err := disk.Copy(s.ctx, filepath.Join(dir, vm.SavedMemory), filepath.Join(base.dir, vm.SavedMemory)); err != nil {
			s.Fatal(err)
		}
	}
	o := vm.SaveOptions{Dir: dir}
	if s.Can.Drives {
		o.Meanwhile = func(ctx context.Context) error {
			return disk.Copy(ctx, filepath.Join(dir, "disk"), filepath.Join(m.Handle().Dir, "disk.ext4"))
		}
	}
	is, err := m.Save(s.ctx, o)
	if err != nil {
		s.Fatal(err)
	}
	return &savedMachine{dir: dir, is: is}
}

// likeSaved is the spec of another machine like the saved one, with a copy of
// its disk.
func (s *suite) likeSaved(id string, sv *savedMachine) vm.Spec {
	s.Helper()
	spec := s.Spec(s, id, filepath.Join(s.dir, id))
	spec.Kernel, spec.Initrd = "", ""
	if s.Can.Drives {
		own := spec.Drives[len(spec.Drives)-1].Path
		if err := os.Remove(own); err != nil {
			s.Fatal(err)
		}
		if err := disk.Copy(s.ctx, own, filepath.Join(sv.dir, "disk")); err != nil {
			s.Fatal(err)
		}
	}
	return spec
}

// restore starts another machine from what was saved.
func (s *suite) restore(id string, sv *savedMachine) vm.Machine {
	s.Helper()
	return s.boot2(s.likeSaved(id, sv), sv)
}

func (s *suite) boot2(spec vm.Spec, sv *savedMachine) vm.Machine {
	s.Helper()
	m, err := s.driver.Restore(s.ctx, spec, sv.dir, sv.is)
	if err != nil {
		s.Error(err)
		return nil
	}
	s.Cleanup(func() { s.end(m.Handle()) })
	if m.Handle().Memory == "" {
		s.Errorf("handle %+v", m.Handle())
	}
	return m
}

func (s *suite) put(c *agent.Client, path, text string) {
	s.Helper()
	if _, err := c.Write(s.ctx, wire.WriteRequest{Path: path}, strings.NewReader(text)); err != nil {
		s.Fatal(err)
	}
}

// ticks checks that the parent's program goes on in a machine that can keep it.
func (s *suite) ticks(c *agent.Client) {
	s.Helper()
	if !s.Can.Kernel {
		return
	}
	p, err := c.Attach(s.ctx, wire.AttachRequest{Process: "ticks"})
	if err != nil {
		s.Error(err)
		return
	}
	defer p.Close()
	s.some(p, io.Discard, 200)
}
