package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/bandsox/bandsox"
)

const (
	bigMiB     = 200
	bigMemMiB  = 1024 // the big file lies in the guest's memory, as the raw port's does
	smallFiles = 10_000
	smallCalls = 200 // of them are written one call each: all would take minutes
	smallBytes = 1000
)

// fileTimes are of a big file and of many small ones.
type fileTimes struct {
	up, down         samples // bigMiB
	treeIn, treeOut  samples // smallFiles
	callIn, callsOut samples // smallCalls
}

// take sends n bytes to the raw port's program, which puts them into a file.
func (p *raw) take(n int64) error {
	if _, err := fmt.Fprintf(p.conn, "t%012d", n); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for n > 0 {
		k, err := p.conn.Write(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	_, err := io.ReadFull(p.conn, buf[:1])
	return err
}

// benchFiles interleaves a big file, there and back, with the raw port, and
// many small files as a tree with one call for each.
func benchFiles(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, b *bare, rounds int) error {
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: bigMemMiB, DiskSizeMiB: diskMiB, AutoRemove: true})
	if err != nil {
		return err
	}
	defer sb.Delete(context.WithoutCancel(ctx))
	port, err := b.raw(ctx, filepath.Join(in.dir, "raw-files"))
	if err != nil {
		return err
	}
	defer port.stop()
	if err := port.conn.SetDeadline(time.Now().Add(30 * time.Minute)); err != nil {
		return err
	}
	if err := port.stream(streamMiB << 20); err != nil { // makes the file, so not timed
		return err
	}
	dir := filepath.Join(in.dir, "files")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var ours fileTimes
	var out, into samples // of the raw port, streamMiB
	for i := range rounds {
		say("files: round %d of %d", i+1, rounds)
		if err := ours.big(ctx, sb, dir); err != nil {
			return err
		}
		for s, move := range map[*samples]func(int64) error{&out: port.stream, &into: port.take} {
			d, err := timed(func() error { return move(streamMiB << 20) })
			if err != nil {
				return err
			}
			*s = append(*s, d)
		}
		if err := ours.small(ctx, sb, i); err != nil {
			return err
		}
	}
	each := func(s samples, n float64) float64 { return s.median() / n * 1e6 }
	r.add(
		row{What: "upload of 200 MiB", Unit: "MiB/s", Ours: bigMiB / ours.up.median(), Peer: "raw virtio-serial port", Their: streamMiB / into.median(), Bar: "ratio >= 0.70", Runs: rounds, Note: "both write a file in the guest's memory"},
		row{What: "download of 200 MiB", Unit: "MiB/s", Ours: bigMiB / ours.down.median(), Peer: "raw virtio-serial port", Their: streamMiB / out.median(), Bar: "ratio >= 0.70", Runs: rounds},
		row{What: "small file in, of a tree of 10,000", Unit: "us", Ours: each(ours.treeIn, smallFiles), Peer: "one call a file", Their: each(ours.callIn, smallCalls), Bar: "ratio <= 0.05", Runs: rounds, Note: "onto the guest's disk, flushed"},
		row{What: "small file out, of a tree of 10,000", Unit: "us", Ours: each(ours.treeOut, smallFiles), Peer: "one call a file", Their: each(ours.callsOut, smallCalls), Bar: "ratio <= 0.05", Runs: rounds, Note: "as a tar stream; neither side writes files here"},
	)
	return nil
}

func (t *fileTimes) big(ctx context.Context, sb *bandsox.Sandbox, dir string) error {
	local := filepath.Join(dir, "big")
	if err := os.WriteFile(local, make([]byte, bigMiB<<20), 0o600); err != nil {
		return err
	}
	const path = "/dev/shm/big"
	for _, step := range []struct {
		times *samples
		do    func() error
	}{
		{&t.up, func() error { _, err := sb.Upload(ctx, local, path, bandsox.TransferOptions{}); return err }},
		{&t.down, func() error { _, err := sb.Download(ctx, path, local, bandsox.TransferOptions{}); return err }},
	} {
		d, err := timed(step.do)
		if err != nil {
			return err
		}
		*step.times = append(*step.times, d)
	}
	return nil
}

func (t *fileTimes) small(ctx context.Context, sb *bandsox.Sandbox, round int) error {
	tree := fstest.MapFS{}
	for i := range smallFiles {
		tree[fmt.Sprintf("d%02d/f%05d", i/100, i)] = &fstest.MapFile{Data: make([]byte, smallBytes), Mode: 0o644}
	}
	guest := fmt.Sprintf("/tmp/tree%d", round)
	calls := func(do func(string) error) func() error {
		return func() error {
			for i := range smallCalls {
				if err := do(fmt.Sprintf("%s/d%02d/f%05d", guest, i/100, i)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, step := range []struct {
		times *samples
		do    func() error
	}{
		{&t.treeIn, func() error { return sb.CopyTo(ctx, tree, guest, bandsox.CopyOptions{}) }},
		{&t.callIn, calls(func(p string) error { return sb.WriteFile(ctx, p, make([]byte, smallBytes), 0o644) })},
		{&t.treeOut, func() error { return sb.Tar(ctx, guest, io.Discard, bandsox.CopyOptions{}) }},
		{&t.callsOut, calls(func(p string) error { _, err := sb.ReadFile(ctx, p); return err })},
	} {
		d, err := timed(step.do)
		if err != nil {
			return err
		}
		*step.times = append(*step.times, d)
	}
	return nil
}
