package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/bandsox/bandsox"
)

const (
	forkMiB   = 512
	forkCount = 20
	dirtyMiB  = 64
)

// benchCopies measures what snapshots are for: creates that don't boot, forks,
// and how long a sandbox stands still for one.
func benchCopies(ctx context.Context, r *report, in *inputs, kernels string, rounds int) (err error) {
	storage := filepath.Join(in.dir, "copies")
	if err := os.MkdirAll(storage, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(kernels, filepath.Join(storage, "kernels")); err != nil {
		return err
	}
	m, err := bandsox.Open(ctx, bandsox.Config{Storage: storage, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := fromTemplates(ctx, r, m, in, rounds); err != nil {
		return err
	}
	if err := forks(ctx, r, m, in); err != nil {
		return err
	}
	return pauses(ctx, r, m, in, rounds)
}

// fromTemplates creates by a template and by a boot, in turns.
func fromTemplates(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, rounds int) error {
	if _, err := coldCreate(ctx, m, in); err != nil { // makes the template
		return err
	}
	if err := templateMade(ctx, m); err != nil {
		return err
	}
	var warm, cold samples
	for range rounds {
		for _, noTemplate := range []bool{false, true} {
			start := time.Now()
			sb, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: memMiB, DiskSizeMiB: diskMiB, NoTemplate: noTemplate})
			if err != nil {
				return err
			}
			if err := sb.Command("/bin/guest", "true").Run(ctx); err != nil {
				return err
			}
			took := time.Since(start)
			info, err := sb.Info(ctx)
			if err != nil {
				return err
			}
			if (info.Template == "") != noTemplate {
				return fmt.Errorf("template %q where noTemplate is %v", info.Template, noTemplate)
			}
			if err := sb.Delete(ctx); err != nil {
				return err
			}
			if noTemplate {
				cold = append(cold, took)
			} else {
				warm = append(warm, took)
			}
		}
	}
	r.add(row{What: "create from a template to first output", Unit: "s", Ours: warm.median(), Peer: "a create that boots", Their: cold.median(), Bar: "ratio <= 0.1", Runs: rounds})
	return nil
}

// templateMade waits for the first template.
func templateMade(ctx context.Context, m *bandsox.Manager) error {
	for {
		list, err := m.Snapshots(ctx, bandsox.SnapshotListOptions{All: true})
		if err != nil || len(list) > 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// forks makes many children of a running machine: the time and the memory of each.
func forks(ctx context.Context, r *report, m *bandsox.Manager, in *inputs) error {
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: forkMiB, DiskSizeMiB: diskMiB, NoTemplate: true})
	if err != nil {
		return err
	}
	start := time.Now()
	children, err := sb.Fork(ctx, forkCount, bandsox.ForkOptions{})
	took := time.Since(start)
	if err != nil {
		return err
	}
	var pss int64
	for _, child := range children {
		if err := child.Command("/bin/guest", "true").Run(ctx); err != nil {
			return err
		}
	}
	for _, child := range children {
		info, err := child.Info(ctx)
		if err != nil {
			return err
		}
		pss += proportional(info.PID)
	}
	for _, child := range append(children, sb) {
		if err := child.Delete(ctx); err != nil {
			return err
		}
	}
	r.add(
		row{What: fmt.Sprintf("fork of %d, %d MiB, each", forkCount, forkMiB), Unit: "ms", Ours: took.Seconds() * 1000 / forkCount, Runs: 1, Note: "wall time of the whole, divided"},
		row{What: "memory of a forked child (Pss)", Unit: "MB", Ours: float64(pss) / forkCount / 1e6, Bar: "<= 40 MB", Runs: forkCount, Note: "after a first program ran in each"},
	)
	return nil
}

// proportional is the memory of a process, what it shares divided among those
// that share it.
func proportional(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) > 1 && string(f[0]) == "Pss:" {
			kib, _ := strconv.ParseInt(string(f[1]), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// pauses takes snapshots of restored machines of two sizes that have written as
// much to their memory.
func pauses(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, rounds int) error {
	var small, large samples
	for range rounds {
		for _, size := range []struct {
			mib int
			to  *samples
		}{{256, &small}, {2048, &large}} {
			pause, err := onePause(ctx, m, in, size.mib)
			if err != nil {
				return err
			}
			*size.to = append(*size.to, pause)
		}
	}
	r.add(row{What: fmt.Sprintf("pause of a snapshot, %d MiB dirty, 2 GiB", dirtyMiB), Unit: "s", Ours: large.median(), Peer: "the same of 256 MiB", Their: small.median(), Bar: "ratio <= 1.3", Runs: rounds})
	return nil
}

func onePause(ctx context.Context, m *bandsox.Manager, in *inputs, mib int) (pause time.Duration, err error) {
	boots, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: mib, DiskSizeMiB: diskMiB, NoTemplate: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, boots.Delete(context.WithoutCancel(ctx))) }()
	children, err := boots.Fork(ctx, 1, bandsox.ForkOptions{})
	if err != nil {
		return 0, err
	}
	child := children[0]
	defer func() { err = errors.Join(err, child.Delete(context.WithoutCancel(ctx))) }()
	data := bytes.NewReader(bytes.Repeat([]byte("dirty\n"), dirtyMiB<<20/6))
	if _, err := child.Write(ctx, "/dev/shm/dirty", data, bandsox.WriteOptions{}); err != nil {
		return 0, err
	}
	s, err := child.Snapshot(ctx, bandsox.SnapshotOptions{})
	if err != nil {
		return 0, err
	}
	info, err := s.Info(ctx)
	return info.Pause, errors.Join(err, s.Delete(ctx))
}
