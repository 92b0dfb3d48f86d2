package main

import (
	"bytes"
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestOpen: it takes the state directory that nobody has, goes through the
// server that has one, and is refused by whoever else has it.
func TestOpen(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	t.Setenv("BANDSOX_STORAGE", dir)
	h, err := open(ctx)
	if err != nil || h.server != "" {
		t.Fatalf("nobody has it: %+v %v", h, err)
	}
	if _, err := open(ctx); !errors.Is(err, bandsox.ErrConflict) {
		t.Errorf("no server has it: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		t.Skip("builds the program")
	}
	serve := exec.Command(vmtest.Program(t, "cmd/bandsox"), "serve", "--socket-only", "--json")
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	serve.Stderr = &said
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = serve.Process.Signal(syscall.SIGTERM)
		_ = serve.Wait()
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil { // it listens
		t.Fatalf("%v %s", err, said.String())
	}
	h, err = open(ctx)
	if err != nil || h.server != "unix://"+dir+"/server.sock" {
		t.Fatalf("a server has it: %+v %v", h, err)
	}
	defer h.Close()
	if _, err := h.Image(ctx, "nothing"); !errors.Is(err, bandsox.ErrNotFound) {
		t.Errorf("through the server: %v", err)
	}
}
