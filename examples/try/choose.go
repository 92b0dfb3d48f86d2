package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/bandsox/bandsox"
)

// The image that is wanted, and the one that BandSox builds from Debian's
// packages where no registry is in reach.
const (
	wanted   = "python:3-alpine"
	fallback = "bandsox/base"
)

// chooseImage brings an image with Python into the store and says which and why.
func chooseImage(ctx context.Context, m house) (ref, why string, err error) {
	for _, ref := range []string{wanted, fallback} {
		if img, err := m.Image(ctx, ref); err == nil {
			return ref, fmt.Sprintf("%s, in the store since %s", ref, img.CreatedAt.Local().Format(time.DateTime)), nil
		}
	}
	// The registry is asked first whether it is there: a pull that can't work
	// should not be waited for.
	report, err := bandsox.Doctor(ctx, bandsox.DoctorOptions{})
	if err != nil {
		return "", "", err
	}
	reason := ""
	for _, c := range report.Checks {
		if c.Name == "registry" && c.Status != bandsox.StatusOK {
			reason = c.Detail
		}
	}
	if reason == "" {
		if _, err := m.Pull(ctx, wanted); err == nil {
			return wanted, wanted + ", from its registry", nil
		} else if errors.Is(err, context.Canceled) {
			return "", "", err
		} else {
			reason = err.Error()
		}
	}
	clearLine()
	fmt.Printf("%s can't be had (%s), so %s is built from Debian's packages\n", wanted, reason, fallback)
	if _, err := m.Pull(ctx, fallback); err != nil {
		return "", "", err
	}
	return fallback, fallback + ", built from Debian's packages", nil
}

func describe(ctx context.Context, sb box) (string, error) {
	info, err := sb.Info(ctx)
	if err != nil {
		return "", err
	}
	steps := ""
	for _, p := range info.Phases {
		steps += fmt.Sprintf(", %s %.2fs", p.Name, p.Duration.Seconds())
	}
	how := ""
	if h := info.Machine; h != nil {
		how = fmt.Sprintf(" on %s %s with %s", h.Driver, h.Version, h.Accel)
	}
	return fmt.Sprintf("microVM %s%s%s", info.ID, how, steps), nil
}

var terminal = term.IsTerminal(int(os.Stdout.Fd()))

var shown struct {
	sync.Mutex
	what string
}

// progress shows long work: on one line of a terminal, else once a step.
func progress(what string, done, total int64) {
	shown.Lock()
	defer shown.Unlock()
	switch {
	case terminal && total > 0:
		fmt.Printf("\r\x1b[K%s: %d of %d MiB", what, done>>20, total>>20)
	case terminal:
		fmt.Printf("\r\x1b[K%s", what)
	case what != shown.what:
		fmt.Println(what)
	}
	shown.what = what
}

func clearLine() {
	if terminal {
		fmt.Print("\r\x1b[K")
	}
}
