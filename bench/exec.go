package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/wire"
)

const (
	rawPort   = "bench.raw"
	streamMiB = 32
	reads     = 3 // of a file, in one round
)

// execTimes are round trips and throughput of one sandbox.
type execTimes struct {
	exec   samples // a whole program: start, output, exit
	echo   samples // a byte there and back on an open stream
	stream samples // streamMiB out of the guest, written by a program to its standard output
	read   samples // streamMiB out of the guest, from a file in its memory
	write  samples // and in
	rss    int64   // of the agent, in bytes
}

func (e *execTimes) round(ctx context.Context, sb *bandsox.Sandbox, execs, echoes int) error {
	for range execs {
		d, err := timed(func() error { return sb.Command("/bin/guest", "true").Run(ctx) })
		if err != nil {
			return err
		}
		e.exec = append(e.exec, d)
	}
	if err := e.echoes(ctx, sb, echoes); err != nil {
		return err
	}
	d, err := timed(func() error {
		n := counter(0)
		cmd := sb.Command("/bin/guest", "give", strconv.Itoa(streamMiB<<20))
		cmd.Stdout = &n
		if err := cmd.Run(ctx); err != nil {
			return err
		}
		if n != streamMiB<<20 {
			return fmt.Errorf("%d bytes came", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.stream = append(e.stream, d)
	if err := e.file(ctx, sb); err != nil {
		return err
	}
	st, err := sb.Stats(ctx)
	e.rss = max(e.rss, st.AgentRSS)
	return err
}

// file writes and reads a file of the guest's memory: no program and no pipe.
func (e *execTimes) file(ctx context.Context, sb *bandsox.Sandbox) error {
	const path = "/dev/shm/stream"
	data := make([]byte, streamMiB<<20)
	d, err := timed(func() error { return sb.WriteFile(ctx, path, data, 0o600) })
	if err != nil {
		return err
	}
	e.write = append(e.write, d)
	// As with the raw port's file, the first time is not counted.
	for i := range 1 + reads {
		d, err := timed(func() error {
			r, err := sb.Open(ctx, path)
			if err != nil {
				return err
			}
			defer r.Close()
			n, err := io.Copy(io.Discard, r)
			if err == nil && n != streamMiB<<20 {
				err = fmt.Errorf("%d bytes came", n)
			}
			return err
		})
		if err != nil {
			return err
		}
		if i > 0 {
			e.read = append(e.read, d)
		}
	}
	return nil
}

func (e *execTimes) echoes(ctx context.Context, sb *bandsox.Sandbox, n int) error {
	in, w := io.Pipe()
	r, out := io.Pipe()
	cmd := sb.Command("/bin/guest", "echo")
	cmd.Stdin, cmd.Stdout = in, out
	if err := cmd.Start(ctx); err != nil {
		return err
	}
	err := pingPong(r, w, n, &e.echo)
	w.Close()
	if err != nil {
		_ = cmd.Kill()
	}
	go io.Copy(io.Discard, r)
	return errors.Join(err, cmd.Wait(ctx))
}

func pingPong(r io.Reader, w io.Writer, n int, times *samples) error {
	b := []byte{'e'}
	for range n {
		d, err := timed(func() error {
			if _, err := w.Write(b); err != nil {
				return err
			}
			_, err := io.ReadFull(r, b)
			return err
		})
		if err != nil {
			return err
		}
		*times = append(*times, d)
	}
	return nil
}

// rawTimes are the same of a virtio-serial port with nothing on it.
type rawTimes struct{ echo, stream samples }

// raw is a bare machine with one port more, and our program at its guest end.
type raw struct {
	conn net.Conn
	stop func()
}

func (b *bare) raw(ctx context.Context, dir string) (_ *raw, err error) {
	if err := b.prepare(ctx, dir); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "raw.sock")
	cmd, err := b.boot(ctx, dir,
		"-chardev", "socket,id=raw,server=on,wait=off,path="+socket,
		"-device", "virtserialport,chardev=raw,nr=2,name="+rawPort)
	if err != nil {
		return nil, err
	}
	stop := func() { kill(cmd); os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			stop()
		}
	}()
	client, err := b.connect(ctx, dir)
	if err != nil {
		return nil, err
	}
	proc, err := client.Start(ctx, wire.StartRequest{Argv: []string{"/bin/guest", "port", rawPort}})
	if err != nil {
		return nil, err
	}
	// The port's guest end must be open before its host end is.
	kind, word, err := proc.Recv()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(word, []byte("ready\n")) {
		return nil, fmt.Errorf("the program at the port said %d %q", kind, word)
	}
	conn, err := dialer(socket)(ctx)
	if err != nil {
		return nil, err
	}
	return &raw{conn, func() { conn.Close(); proc.Close(); client.Close(); stop() }}, nil
}

func (p *raw) round(t *rawTimes, echoes int) error {
	if err := p.conn.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		return err
	}
	if err := pingPong(p.conn, p.conn, echoes, &t.echo); err != nil {
		return err
	}
	for range reads {
		d, err := timed(func() error { return p.stream(streamMiB << 20) })
		if err != nil {
			return err
		}
		t.stream = append(t.stream, d)
	}
	return nil
}

func (p *raw) stream(n int64) error {
	if _, err := fmt.Fprintf(p.conn, "g%012d", n); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, p.conn, n)
	return err
}

// benchExec interleaves rounds on a sandbox and on a raw port. Both machines
// run all the time; one waits while the other is measured.
func benchExec(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, b *bare, rounds int) error {
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: memMiB, DiskSizeMiB: diskMiB, AutoRemove: true})
	if err != nil {
		return err
	}
	defer sb.Delete(context.WithoutCancel(ctx))
	port, err := b.raw(ctx, filepath.Join(in.dir, "raw"))
	if err != nil {
		return err
	}
	defer port.stop()
	if err := port.stream(streamMiB << 20); err != nil { // makes the file, so not timed
		return err
	}
	var ours execTimes
	var theirs rawTimes
	for i := range rounds {
		say("exec and streams: round %d of %d", i+1, rounds)
		if err := ours.round(ctx, sb, 20, 200); err != nil {
			return err
		}
		if err := port.round(&theirs, 200); err != nil {
			return err
		}
	}
	ms := func(s samples, p float64) float64 { return s.at(p).Seconds() * 1000 }
	const peer = "raw virtio-serial port"
	r.add(
		row{What: "exec of a program, p50", Unit: "ms", Ours: ms(ours.exec, 0.5), Peer: peer + ", one byte", Their: ms(theirs.echo, 0.5), Runs: len(ours.exec), Note: "a process is started, reports and is reaped in between"},
		row{What: "exec of a program, p99", Unit: "ms", Ours: ms(ours.exec, 0.99), Peer: peer + ", one byte", Their: ms(theirs.echo, 0.99), Runs: len(ours.exec)},
		row{What: "byte there and back, p50", Unit: "ms", Ours: ms(ours.echo, 0.5), Peer: peer, Their: ms(theirs.echo, 0.5), Runs: len(ours.echo), Note: "ours goes through two pipes in the guest"},
		row{What: "byte there and back, p99", Unit: "ms", Ours: ms(ours.echo, 0.99), Peer: peer, Their: ms(theirs.echo, 0.99), Runs: len(ours.echo)},
		row{What: "file out of the guest", Unit: "MiB/s", Ours: streamMiB / ours.read.median(), Peer: peer, Their: streamMiB / theirs.stream.median(), Bar: "ratio >= 0.70", Runs: rounds, Note: "both read a file in the guest's memory"},
		row{What: "program's output", Unit: "MiB/s", Ours: streamMiB / ours.stream.median(), Peer: peer, Their: streamMiB / theirs.stream.median(), Runs: rounds, Note: "through a pipe of the guest's kernel first"},
		row{What: "file into the guest", Unit: "MiB/s", Ours: streamMiB / ours.write.median(), Runs: rounds},
		row{What: "agent, resident", Unit: "MiB", Ours: float64(ours.rss) / (1 << 20), Bar: "<= 8 MiB", Runs: rounds},
	)
	return nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
