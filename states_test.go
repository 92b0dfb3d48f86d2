package bandsox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestTableIsWhole: each operation has its one row, and each row an answer for
// each state.
func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	seen := map[operation]bool{}
	for _, r := range table {
		if seen[r.op] {
			t.Errorf("%s has two rows", r.op)
		}
		seen[r.op] = true
		for i, a := range r.answers {
			if a != allowed && a != refused && a != already && a != gone {
				t.Errorf("%s in %s: %q", r.op, states[i], a)
			}
		}
	}
}

// TestTableIsDocumented: what docs/ARCHITECTURE.md shows is the table.
func TestTableIsDocumented(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| |")
	for _, s := range states {
		fmt.Fprintf(&b, " %s |", s)
	}
	b.WriteString(" leads to |\n|---|" + strings.Repeat("---|", len(states)+1) + "\n")
	for _, r := range table {
		fmt.Fprintf(&b, "| %s |", r.op)
		for _, a := range r.answers {
			fmt.Fprintf(&b, " %s |", a)
		}
		fmt.Fprintf(&b, " %s |\n", r.to)
	}
	doc, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), b.String()) {
		t.Errorf("docs/ARCHITECTURE.md has another table of states; it should be:\n%s", b.String())
	}
}

// TestRefusedTransitions does to a sandbox in each state what the table
// refuses there: a conflict that names the state and what leads on.
func TestRefusedTransitions(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	ctx := t.Context()
	do := map[operation]func() error{
		opStart: func() error { return sb.Start(ctx) }, opStop: func() error { return sb.Stop(ctx, 0) },
		opKill: func() error { return sb.Kill(ctx) }, opPause: func() error { return sb.Pause(ctx) },
		opResume: func() error { return sb.Resume(ctx) }, opUse: func() error { return sb.Command("true").Run(ctx) },
		opRead:     func() error { _, err := sb.Stat(ctx, "/"); return err },
		opSnapshot: func() error { _, err := sb.Snapshot(ctx, SnapshotOptions{}); return err },
		opFork:     func() error { _, err := sb.Fork(ctx, 1, ForkOptions{}); return err },
		opLook:     func() error { _, err := sb.Processes(ctx); return err }, opUpdate: func() error { return sb.Update(ctx, Update{}) },
		opRestart: func() error { return sb.Restart(ctx, 0) }, opDelete: func() error { return sb.Delete(ctx) },
	}
	into := map[State]func() error{
		StateRunning: func() error { return nil }, StatePaused: do[opPause],
		StateStopped: do[opKill], StateDeleted: do[opDelete],
	}
	for _, state := range states {
		enter, ok := into[state]
		if !ok {
			continue // creating and failed can't be had by asking
		}
		if err := enter(); err != nil {
			t.Fatal(err)
		}
		for _, r := range table {
			want := ask(r.op, state)
			if want == allowed {
				continue
			}
			err := do[r.op]()
			var e *Error
			switch errors.As(err, &e); {
			case want == already && err != nil:
				t.Errorf("%s in %s: %v", r.op, state, err)
			case want == gone && !errors.Is(err, ErrNotFound):
				t.Errorf("%s in %s: %v", r.op, state, err)
			case want == refused && (!errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), string(state)) || !strings.HasPrefix(e.Hint, "bandsox ")):
				t.Errorf("%s in %s: %v (%+v)", r.op, state, err, e)
			}
			if is := sb.state(); is != state {
				t.Fatalf("%s in %s, %s, made it %s", r.op, state, want, is)
			}
		}
	}
}

// TestStoppedStaysStopped is what the reference got wrong: a second stop's
// answer depended on who asked, and an exec in a stopped sandbox hung.
func TestStoppedStaysStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := newSharedManager(t, dir), newSharedManager(t, dir)
	sb := create(t, one, CreateOptions{Name: "box"})
	if err := sb.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Manager{one, two} {
		sb, err := m.Get(t.Context(), "box")
		if err != nil {
			t.Fatal(err)
		}
		if err := sb.Stop(t.Context(), 0); !errors.Is(err, ErrConflict) {
			t.Errorf("a second stop: %v", err)
		}
		if err := sb.Command("true").Run(t.Context()); !errors.Is(err, ErrConflict) {
			t.Errorf("exec in a stopped sandbox: %v", err)
		}
	}
}
