package agent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/agent/guest"
	"github.com/bandsox/bandsox/internal/wire"
)

// TestWithoutAttaching writes to a process, sizes its terminal and waits for
// it, all by its id.
func TestWithoutAttaching(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	ctx := context2(t)
	begin(t, s, wire.StartRequest{ID: "cat", Shell: "cat >copy; exit 3", Stdin: true}).Close()
	input := strings.Repeat("\x00\xff0123456\n", 100_000)
	if err := s.client.Input(ctx, "cat", []byte(input[:400_001]), false); err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.client.Wait(waiting, "cat"); err == nil {
		t.Error("waited without a context")
	}
	if err := s.client.Input(ctx, "cat", []byte(input[400_001:]), true); err != nil {
		t.Fatal(err)
	}
	if exit, err := s.client.Wait(ctx, "cat"); err != nil || exit.Code != 3 {
		t.Errorf("%+v %v", exit, err)
	}
	if out, _, _ := s.run(t, wire.StartRequest{Argv: []string{"cat", "copy"}}); out != input {
		t.Errorf("%d bytes of %d, or others", len(out), len(input))
	}
	wantCode(t, s.client.Input(ctx, "cat", []byte("x"), false), wire.Conflict, "has ended")
	begin(t, s, wire.StartRequest{ID: "closed", Argv: []string{"sleep", "1000"}, Stdin: true}).Close()
	if err := s.client.Input(ctx, "closed", nil, true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.client.Input(ctx, "closed", []byte("x"), false), wire.Conflict, "was closed")
	begin(t, s, wire.StartRequest{ID: "deaf", Argv: []string{"sleep", "1000"}}).Close()
	wantCode(t, s.client.Input(ctx, "deaf", []byte("x"), false), wire.Conflict, "without an input")
	wantCode(t, s.client.Resize(ctx, "deaf", wire.Size{Cols: 1, Rows: 1}), wire.Conflict, "no terminal")
	_, err := s.client.Wait(ctx, "nobody")
	wantCode(t, err, wire.NotFound, "nobody")
}

// TestListOfLongCommands: however long command lines are, the list arrives.
func TestListOfLongCommands(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	const n = 20
	long := strings.Repeat("\x01", 20_000)
	for range n {
		s.run(t, wire.StartRequest{Argv: []string{"true", long, long}})
	}
	list, err := s.client.Processes(context2(t))
	if err != nil || len(list) != n || len(list[0].Argv) != 2 || len(list[0].Argv[1]) > 5000 {
		t.Errorf("%d processes: %v", len(list), err)
	}
}

// TestFollow lists what ran and runs, and tells of what ends from then on.
func TestFollow(t *testing.T) {
	t.Parallel()
	s := start(t, guest.ServeConfig{})
	ctx, cancel := context.WithCancel(context2(t))
	defer cancel()
	s.run(t, wire.StartRequest{ID: "before", Shell: "exit 3"})
	begin(t, s, wire.StartRequest{ID: "during", Shell: "read x; exit 4", Stdin: true}).Close()
	listed, ended := make(chan wire.Process, 2), make(chan wire.Process, 400)
	over := make(chan error, 1)
	go func() {
		complete, err := s.client.Follow(ctx, func(p wire.Process) { listed <- p }, func(p wire.Process) { ended <- p })
		if !complete {
			t.Error("no complete list")
		}
		over <- err
	}()
	if p := <-listed; p.ID != "before" || p.Exit == nil || p.Exit.Code != 3 || p.Ended.Before(p.Started) {
		t.Errorf("first: %+v", p)
	}
	if p := <-listed; p.ID != "during" || p.Exit != nil || !p.Ended.IsZero() {
		t.Errorf("second: %+v", p)
	}
	if busy, _ := s.client.Busy(); busy {
		t.Error("following is a use of the guest")
	}
	if err := s.client.Input(ctx, "during", []byte("\n"), true); err != nil {
		t.Fatal(err)
	}
	if p := <-ended; p.ID != "during" || p.Exit.Code != 4 {
		t.Errorf("ended: %+v", p)
	}
	want := map[string]bool{}
	for i := range 300 { // more than the guest keeps, one by one
		id := fmt.Sprintf("many%d", i)
		want[id] = true
		s.run(t, wire.StartRequest{ID: id, Argv: []string{"true"}})
	}
	for len(want) > 0 {
		p := <-ended
		if !want[p.ID] {
			t.Fatalf("twice, or never started: %+v", p)
		}
		delete(want, p.ID)
	}
	cancel()
	if err := <-over; err == nil {
		t.Error("no error at the end")
	}
}
