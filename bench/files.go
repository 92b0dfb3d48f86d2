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
	smallFiles = 10_000
	smallCalls = 200 // of them are written one call each: all would take minutes
	smallBytes = 1000
)

// fileTimes are of a big file and of many small ones.
type fileTimes struct {
	up, down, read  samples // the big file
	treeIn, treeOut samples // smallFiles
	treeDown        samples // and onto the host's disk
	callIn, callOut samples // smallCalls
	callDown        samples
}

// bigFile is moved there and back by a sandbox and by a raw port, from and to
// the same places: files in the memory of two like guests, and on one disk here.
type bigFile struct {
	mib   int64
	sb    *bandsox.Sandbox
	port  *raw
	local string
	ours  fileTimes
	raw   struct{ in, out, thrown samples }
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

// benchFiles interleaves a big file of so many MiB, there and back, with the raw
// port, and many small files as a tree with one call for each.
func benchFiles(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, mib int64, rounds int) error {
	// Both guests hold two such files in half of their memory.
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: int(4*mib + 512), DiskSizeMiB: diskMiB, AutoRemove: true})
	if err != nil {
		return err
	}
	defer sb.Delete(context.WithoutCancel(ctx))
	b, err := learn(ctx, sb)
	if err != nil {
		return err
	}
	port, err := b.raw(ctx, filepath.Join(in.dir, "raw-files"))
	if err != nil {
		return err
	}
	defer port.stop()
	if err := port.conn.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		return err
	}
	if err := port.stream(mib << 20); err != nil { // makes the file, so not timed
		return err
	}
	dir := filepath.Join(in.dir, "files")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	big := bigFile{mib: mib, sb: sb, port: port, local: filepath.Join(dir, "big")}
	if err := big.make(); err != nil {
		return err
	}
	if err := big.round(ctx, &fileTimes{}); err != nil { // pages that a guest touches first are not timed
		return err
	}
	big.raw.in, big.raw.out, big.raw.thrown = nil, nil, nil
	ours := &big.ours
	for i := range rounds {
		say("files: round %d of %d", i+1, rounds)
		if err := big.round(ctx, ours); err != nil {
			return err
		}
		if err := ours.small(ctx, sb, dir, i); err != nil {
			return err
		}
	}
	size := func(what string) string { return fmt.Sprintf("%s of %d MiB", what, mib) }
	speed := func(s samples) float64 { return float64(mib) / s.median() }
	each := func(s samples, n float64) float64 { return s.median() / n * 1e6 }
	const peer, calls = "raw virtio-serial port", "one call a file"
	r.add(
		row{What: size("upload"), Unit: "MiB/s", Ours: speed(ours.up), Peer: peer, Their: speed(big.raw.in), Bar: "ratio >= 0.70", Runs: rounds, Note: "both write a file in the guest's memory"},
		row{What: size("download"), Unit: "MiB/s", Ours: speed(ours.down), Peer: peer + ", into a file, flushed", Their: speed(big.raw.out), Bar: "ratio >= 0.70", Runs: rounds, Note: "from the guest's memory into a file here that is flushed; both replace one"},
		row{What: size("reading a file"), Unit: "MiB/s", Ours: speed(ours.read), Peer: peer, Their: speed(big.raw.thrown), Bar: "ratio >= 0.70", Runs: rounds, Note: "both throw the bytes away"},
		row{What: "small file in, of a tree of 10,000", Unit: "us", Ours: each(ours.treeIn, smallFiles), Peer: calls, Their: each(ours.callIn, smallCalls), Bar: "ratio <= 0.05", Runs: rounds, Note: "onto the guest's disk, flushed"},
		row{What: "small file out, of a tree of 10,000", Unit: "us", Ours: each(ours.treeOut, smallFiles), Peer: calls, Their: each(ours.callOut, smallCalls), Bar: "ratio <= 0.05", Runs: rounds, Note: "as a tar stream; neither side writes files here"},
		row{What: "small file out onto the disk here", Unit: "us", Ours: each(ours.treeDown, smallFiles), Peer: "one download a file", Their: each(ours.callDown, smallCalls), Bar: "ratio <= 0.05", Runs: rounds, Note: "a download is flushed, a tree is not"},
	)
	return nil
}

// make makes the file, and leaves nothing of it to be written while others are
// measured.
func (b *bigFile) make() error {
	f, err := os.Create(b.local)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for range b.mib {
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (b *bigFile) round(ctx context.Context, t *fileTimes) error {
	const path = "/dev/shm/big"
	bytes := b.mib << 20
	for _, step := range []struct {
		times *samples
		do    func() error
	}{
		{&t.up, func() error { _, err := b.sb.Upload(ctx, b.local, path, bandsox.TransferOptions{}); return err }},
		{&b.raw.in, func() error { return b.port.take(bytes) }},
		{&t.down, func() error { _, err := b.sb.Download(ctx, path, b.local, bandsox.TransferOptions{}); return err }},
		{&b.raw.out, func() error { return b.port.land(bytes, b.local+".raw") }},
		{&t.read, func() error { return b.read(ctx, path) }},
		{&b.raw.thrown, func() error { return b.port.stream(bytes) }},
	} {
		d, err := timed(step.do)
		if err != nil {
			return err
		}
		*step.times = append(*step.times, d)
	}
	return nil
}

func (b *bigFile) read(ctx context.Context, path string) error {
	f, err := b.sb.Open(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, f)
	if err == nil && n != b.mib<<20 {
		err = fmt.Errorf("%d bytes came", n)
	}
	return err
}

// land asks the raw port's program for n bytes and replaces a file by them, as
// a download does.
func (p *raw) land(n int64, local string) error {
	if _, err := fmt.Fprintf(p.conn, "g%012d", n); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(local), ".raw-*")
	if err != nil {
		return err
	}
	defer f.Close()
	// Not as a connection and a file, which would be spliced: bytes of ours and
	// of a raw port's user go through hands that look at them.
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{io.LimitReader(p.conn, n)}, make([]byte, 64<<10))
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), local)
	}
	return err
}

func (t *fileTimes) small(ctx context.Context, sb *bandsox.Sandbox, dir string, round int) error {
	tree := fstest.MapFS{}
	for i := range smallFiles {
		tree[fmt.Sprintf("d%02d/f%05d", i/100, i)] = &fstest.MapFile{Data: make([]byte, smallBytes), Mode: 0o644}
	}
	guest := fmt.Sprintf("/tmp/tree%d", round)
	whole, single := filepath.Join(dir, "tree"), filepath.Join(dir, "single")
	defer os.RemoveAll(whole)
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
		{&t.callOut, calls(func(p string) error { _, err := sb.ReadFile(ctx, p); return err })},
		{&t.treeDown, func() error { return sb.CopyFrom(ctx, guest, whole, bandsox.CopyOptions{}) }},
		{&t.callDown, calls(func(p string) error { _, err := sb.Download(ctx, p, single, bandsox.TransferOptions{}); return err })},
	} {
		d, err := timed(step.do)
		if err != nil {
			return err
		}
		*step.times = append(*step.times, d)
	}
	return nil
}
