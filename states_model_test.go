package bandsox

import (
	"errors"
	"flag"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestTableAsModel does random operations to one sandbox, now and then kills
// its machine, and holds it to the table: what is allowed is done and leads
// where the table says, what is refused changes nothing.
func TestTableAsModel(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	image := testImage(t)
	few(t)
	rapid.Check(t, func(r *rapid.T) {
		sb, err := m.Create(t.Context(), CreateOptions{Image: image})
		if err != nil {
			r.Fatal(err)
		}
		defer sb.Delete(t.Context())
		model := StateRunning
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			if rapid.IntRange(0, 7).Draw(r, "machine dies") == 0 && (model == StateRunning || model == StatePaused) {
				_ = syscall.Kill(sb.known().PID, syscall.SIGKILL)
				model = StateFailed
				waitFor(r, sb, model)
			}
			row := table[rapid.IntRange(0, len(table)-1).Draw(r, "operation")]
			answer := ask(row.op, model)
			err := doOp(t, sb, row.op)
			r.Logf("%s in %s (%s): %v", row.op, model, answer, err)
			switch {
			case answer == allowed && err != nil, answer == already && err != nil:
				r.Fatalf("%s in %s: %v", row.op, model, err)
			case answer == refused && !errors.Is(err, ErrConflict), answer == gone && !errors.Is(err, ErrNotFound):
				r.Fatalf("%s in %s is %s: %v", row.op, model, answer, err)
			}
			if answer == allowed && row.to != "" {
				model = row.to
			}
			waitFor(r, sb, model)
		}
	})
}

func doOp(t *testing.T, sb *Sandbox, op operation) error {
	switch op {
	case opUse:
		return sb.Command("true").Run(t.Context())
	case opRead:
		_, err := sb.Stat(t.Context(), "/")
		return err
	case opSnapshot:
		s, err := sb.Snapshot(t.Context(), SnapshotOptions{})
		if err == nil {
			err = s.Delete(t.Context())
		}
		return err
	case opLook:
		_, err := sb.Processes(t.Context())
		return err
	}
	return sbDo(t.Context(), sb, string(op))
}

// waitFor fails unless the sandbox is in the state, or about to be.
func waitFor(r *rapid.T, sb *Sandbox, want State) {
	r.Helper()
	for range 500 {
		if sb.state() == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.Fatalf("it is %s, want %s", sb.state(), want)
}

// few has rapid make few sequences: each boots machines.
func few(t *testing.T) {
	t.Helper()
	n := "20"
	if testing.Short() {
		n = "15" // of which rapid does a fifth
	}
	f := flag.Lookup("rapid.checks")
	before := f.Value.String()
	if err := f.Value.Set(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
}
