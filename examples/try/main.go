// Try is what `make try` runs: the whole of BandSox once, on this machine. It
// finds a kernel and an image, makes a microVM, runs a Python program in it,
// runs a second command in the same one, copies a file in and out, and throws
// it away, with the time that each step took.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/bandsox/bandsox"
)

// program prints who it is: all of this is the guest's own.
const program = `
import os, platform, socket, sys
print("hello from", socket.gethostname(), "- Linux", platform.release())
print("cpus:", os.cpu_count())
print("memory:", [l.split()[1] for l in open("/proc/meminfo") if l.startswith("MemTotal")][0], "KiB")
print("python:", sys.version.split()[0], "as process", os.getpid())
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	slog.SetLogLoggerLevel(slog.LevelWarn)
	if err := try(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if e := (*bandsox.Error)(nil); errors.As(err, &e) && e.Hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", e.Hint)
		}
		os.Exit(1)
	}
}

func try(ctx context.Context) error {
	start := time.Now()
	err := phase("kernel", func() (string, error) {
		k, err := bandsox.Init(ctx, bandsox.InitOptions{Progress: progress})
		return k.Version + ", from " + k.Source, err
	})
	if err != nil {
		return err
	}
	h, err := open(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	if h.server != "" {
		fmt.Printf("%-10s          the one that runs here makes the microVM: %s\n", "server", h.server)
	}
	ctx = bandsox.WithProgress(ctx, progress)

	var image string
	if err := phase("image", func() (s string, err error) { image, s, err = chooseImage(ctx, h); return s, err }); err != nil {
		return err
	}
	var sb box
	err = phase("create", func() (string, error) {
		sb, err = h.create(ctx, bandsox.CreateOptions{Image: image, MemMiB: 256, AutoRemove: true})
		if err != nil {
			return "", err
		}
		return describe(ctx, sb)
	})
	if err != nil {
		return err
	}
	defer sb.Delete(context.WithoutCancel(ctx))
	if err := use(ctx, sb); err != nil {
		return err
	}
	if err := phase("delete", func() (string, error) { return "nothing of it is left", sb.Delete(ctx) }); err != nil {
		return err
	}
	fmt.Printf("%-10s %6.2fs\n", "total", time.Since(start).Seconds())
	return nil
}

// use runs two commands and carries a file there and back.
func use(ctx context.Context, sb box) error {
	err := phase("python", func() (string, error) {
		out := indent(os.Stdout)
		err := sb.Run(ctx, out, "python3", "-u", "-c", program)
		return "a program, its output as it came", errors.Join(err, out.Close())
	})
	if err != nil {
		return err
	}
	err = phase("exec", func() (string, error) {
		out, err := sb.Shell(ctx, "echo $((6*7)) on $(uname -m)")
		return "a second command said: " + strings.TrimSpace(string(out)), err
	})
	if err != nil {
		return err
	}
	return phase("files", func() (string, error) {
		const path, text = "/root/note.txt", "there and back\n"
		if err := sb.WriteFile(ctx, path, []byte(text), 0o600); err != nil {
			return "", err
		}
		got, err := sb.ReadFile(ctx, path)
		if err == nil && string(got) != text {
			err = fmt.Errorf("wrote %q to %s and read %q", text, path, got)
		}
		return "wrote " + path + " and read it back", err
	})
}

// phase does one step and prints its time and what came of it.
func phase(name string, do func() (string, error)) error {
	start := time.Now()
	detail, err := do()
	if err != nil {
		return err
	}
	clearLine()
	fmt.Printf("%-10s %6.2fs  %s\n", name, time.Since(start).Seconds(), detail)
	return nil
}

// indent writes whole lines to w, marked as the guest's.
func indent(w io.Writer) io.WriteCloser {
	r, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			fmt.Fprintln(w, "  |", lines.Text())
		}
	}()
	return closer{pw, func() error { err := pw.Close(); <-done; return err }}
}

type closer struct {
	io.Writer
	close func() error
}

func (c closer) Close() error { return c.close() }
