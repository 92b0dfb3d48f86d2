// Bench measures BandSox against its parts and against docker, on this machine
// and in one run: only ratios mean anything elsewhere. It makes its own inputs,
// interleaves the runs of both sides, reports medians, and asserts nothing.
//
//	make bench                      or: go run ./bench -rounds 9 -json out.json
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/agentbin"
)

const goarch = runtime.GOARCH

var quiet = log.New(io.Discard, "", 0)

func main() {
	rounds := flag.Int("rounds", 5, "how often each thing is measured")
	out := flag.String("json", "bench/result.json", "where the figures go as JSON")
	bin := flag.String("bandsox", "bin/bandsox", "the program that is compared with docker's")
	only := flag.String("only", "", "measure one part alone: base, create, exec, files, http, copies, scale or docker")
	size := flag.Int64("size", bigMiB, "MiB of the big file; two guests and the disk hold two and more of it")
	flag.Parse()
	slog.SetLogLoggerLevel(slog.LevelWarn)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *rounds, *size, *out, *bin, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, rounds int, size int64, out, bin, only string) (err error) {
	wanted := func(part string) bool { return only == "" || only == part }
	dir, err := os.MkdirTemp("", "bandsox-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &report{Time: time.Now(), Host: hostLine()}
	defer func() {
		if err != nil { // a run takes minutes: what it had is shown
			err = errors.Join(err, r.write(os.Stdout))
		}
	}()

	if wanted("scale") {
		say("a manager of many sandboxes")
		if err := benchScale(ctx, r); err != nil {
			return err
		}
		if only == "scale" {
			return errors.Join(r.write(os.Stdout), r.save(out))
		}
	}

	say("making the image")
	in, err := makeInputs(dir)
	if err != nil {
		return err
	}
	defer in.close()
	storage := filepath.Join(dir, "state")
	m, err := open(ctx, storage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()

	if wanted("base") {
		say("base from a registry")
		if err := benchBase(ctx, r, m, in, min(rounds, 3)); err != nil {
			return err
		}
	}
	var d *docker
	if wanted("docker") {
		if d, err = startDocker(ctx, filepath.Join(dir, "docker")); err != nil {
			r.note("docker: %v", err)
			d = nil
		} else {
			defer d.stop()
		}
	}
	b, err := learnFrom(ctx, m, in)
	if err != nil {
		return err
	}
	if wanted("create") {
		say("create to first output")
		if err := benchCreate(ctx, r, m, in, b, rounds); err != nil {
			return err
		}
	}
	if wanted("exec") {
		say("exec and streams")
		if err := benchExec(ctx, r, m, in, b, rounds); err != nil {
			return err
		}
	}
	if wanted("files") {
		say("files")
		if err := benchFiles(ctx, r, m, in, size, min(rounds, 3)); err != nil {
			return err
		}
	}
	if wanted("http") {
		say("http")
		if err := benchHTTP(ctx, r, m, in, bin, rounds); err != nil {
			return err
		}
	}
	if wanted("copies") {
		say("snapshots, forks and templates")
		if err := benchCopies(ctx, r, in, filepath.Join(storage, "kernels"), min(rounds, 3)); err != nil {
			return err
		}
	}
	if d != nil {
		say("docker")
		if err := benchDocker(ctx, r, in, d, bin, filepath.Join(storage, "kernels"), rounds); err != nil {
			return err
		}
	}
	if agent, ok := agentbin.Agent(goarch); ok {
		r.add(row{What: "agent, size", Unit: "MB", Ours: float64(len(agent)) / 1e6, Bar: "<= 3 MB"})
	}
	if err := r.write(os.Stdout); err != nil {
		return err
	}
	return r.save(out)
}

func learnFrom(ctx context.Context, m *bandsox.Manager, in *inputs) (*bare, error) {
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: memMiB, DiskSizeMiB: diskMiB, AutoRemove: true})
	if err != nil {
		return nil, err
	}
	b, err := learn(ctx, sb)
	return b, errors.Join(err, sb.Delete(ctx))
}

func benchCreate(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, b *bare, rounds int) error {
	var ours, theirs samples
	for range rounds {
		d, err := coldCreate(ctx, m, in)
		if err != nil {
			return err
		}
		ours = append(ours, d)
		if d, err = b.coldBare(ctx, filepath.Join(in.dir, "bare")); err != nil {
			return fmt.Errorf("bare QEMU: %w", err)
		}
		theirs = append(theirs, d)
	}
	r.add(row{What: "create to first output", Unit: "s", Ours: ours.median(), Peer: "bare QEMU, same command line",
		Their: theirs.median(), Bar: "ratio <= 1.25", Runs: rounds, Note: "no template: every create boots; the peer's disk is made before its clock starts"})
	return nil
}

var start = time.Now()

// say tells what is going on: a run takes minutes.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: %4.0fs %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
}

// hostLine says what the figures were measured on.
func hostLine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	qemu, _ := exec.Command("qemu-system-x86_64", "--version").Output()
	first, _, _ := strings.Cut(string(qemu), "\n")
	return fmt.Sprintf("%d cores, %s, Linux %s, load %.12s, %s", runtime.NumCPU(), goarch, strings.TrimSpace(string(kernel)), load, first)
}
