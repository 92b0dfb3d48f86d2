// Lab runs a command on a machine with hardware virtualisation, where this one
// has none: QEMU emulates an AMD processor with nested paging, and Debian's
// kernel in it offers a /dev/kvm that works. The machine has this repository's
// build in it, is made for one command, and is thrown away.
//
//	make lab RUN='bandsox doctor'        or, after make: bin/lab bandsox doctor
//
// It is made of BandSox's own parts: bandsox/base with some more packages, a
// kernel and initramfs as sandboxes have, and the agent, which runs the command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// options are what the command line says.
type options struct {
	cpus, mem int
	add       []file
	env       []string
	dir       string
	console   bool
	timing    bool
	argv      []string
}

func main() {
	// QEMU dies with the thread that started it: it must be one that stays.
	runtime.LockOSThread()
	slog.SetLogLoggerLevel(slog.LevelWarn)
	var o options
	flag.IntVar(&o.cpus, "cpus", 1, "processors; more are slower on a busy host")
	flag.IntVar(&o.mem, "mem", 3072, "MiB of memory; the host gives what is used")
	flag.StringVar(&o.dir, "dir", "/root", "directory of the machine that the command runs in")
	flag.BoolVar(&o.console, "console", false, "show what the machine's kernel prints")
	flag.BoolVar(&o.timing, "time", false, "say how long each part took")
	flag.Func("add", "NAME=PATH: a file or directory of this host, to be /lab/NAME there", func(s string) error {
		name, path, ok := strings.Cut(s, "=")
		if !ok || !filepath.IsLocal(name) {
			return errors.New("want NAME=PATH")
		}
		o.add = append(o.add, file{name, path})
		return nil
	})
	flag.Func("env", "NAME=VALUE for the command", func(s string) error { o.env = append(o.env, s); return nil })
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: lab [options] COMMAND [ARGUMENT...]\nOne argument alone is a line for bash. Options:")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.argv = flag.Args()
	switch len(o.argv) {
	case 0:
		flag.Usage()
		os.Exit(2)
	case 1:
		o.argv = []string{"/bin/bash", "-c", o.argv[0]}
	}
	code, err := lab(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		if hint := hintOf(err); hint != "" {
			fmt.Fprintln(os.Stderr, "  try:", hint)
		}
		code = 125
	}
	os.Exit(code)
}

func hintOf(err error) string {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// lab makes the machine, runs the command in it and returns its exit code.
func lab(o options) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	signal.Ignore(unix.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	forward := make(chan int, 8) // signals for the command
	go heed(signals, forward, cancel)

	clock := stopwatch{last: time.Now()}
	if o.timing {
		clock.w = os.Stderr
	}
	cache, err := openCache()
	if err != nil {
		return 0, err
	}
	kit, err := cache.kit(ctx)
	if err != nil {
		return 0, err
	}
	clock.lap("root file system")
	scratch, err := cache.scratch()
	if err != nil {
		return 0, err
	}
	defer scratch.remove()
	m, err := boot(ctx, o, kit, scratch)
	if err != nil {
		return 0, err
	}
	defer m.kill()
	clock.lap("from nothing to QEMU")
	if err := m.connect(ctx); err != nil {
		return 0, err
	}
	scratch.remove() // QEMU has it open: now nothing is left however we end
	clock.lap("from QEMU to agent")
	if err := m.furnish(ctx); err != nil {
		return 0, err
	}
	clock.lap("mounts and modules")
	code, err := m.run(ctx, o, forward)
	clock.lap("command")
	return code, err
}

// heed hands the first signal on to the command, as a terminal's would be, and
// ends everything at the second.
func heed(from <-chan os.Signal, forward chan<- int, cancel context.CancelCauseFunc) {
	for n := 0; ; n++ {
		s := (<-from).(unix.Signal)
		if n == 0 {
			forward <- int(s)
			time.AfterFunc(10*time.Second, func() { cancel(fmt.Errorf("ended by %v", s)) })
		} else {
			cancel(fmt.Errorf("ended by %v", s))
		}
	}
}

type stopwatch struct {
	w    io.Writer
	last time.Time
}

func (s *stopwatch) lap(what string) {
	if s.w != nil {
		fmt.Fprintf(s.w, "lab: %6.2fs  %s\n", time.Since(s.last).Seconds(), what)
	}
	s.last = time.Now()
}
