package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// passPatience is how long a signal may take to be on its way to a program.
const passPatience = 5 * time.Second

// interrupts decides what Ctrl-C and its like do. While a program runs in a
// sandbox the first goes to it; otherwise the first cancels what is under way
// and lets it be undone. The second leaves at once.
type interrupts struct {
	mu     sync.Mutex
	pass   func(syscall.Signal) error // to the program that runs, if one does
	atExit []func()                   // what must be put right even then, the last first
	leave  bool                       // the first ends us like a second
	seen   int
	first  syscall.Signal
}

func watchInterrupts(cancel context.CancelFunc) *interrupts {
	in := &interrupts{}
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		for s := range c {
			in.got(s.(syscall.Signal), cancel)
		}
	}()
	return in
}

func (in *interrupts) got(s syscall.Signal, cancel context.CancelFunc) {
	in.mu.Lock()
	if in.seen++; in.seen == 1 {
		in.first = s
	}
	seen, pass, atExit, leave := in.seen, in.pass, in.atExit, in.leave
	in.mu.Unlock()
	switch {
	case seen > 1 || leave:
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, f := range slices.Backward(atExit) { // the terminal before the machine, which may take a while
				f()
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Second):
		}
		os.Exit(128 + int(s))
	case pass != nil:
		go func() { // the sandbox may not answer
			passed := make(chan error, 1)
			go func() { passed <- pass(s) }()
			select {
			case err := <-passed:
				if err != nil { // it has not started yet, or can't be reached
					cancel()
				}
			case <-time.After(passPatience):
				cancel()
			}
		}()
	default:
		cancel()
	}
}

// ended returns the code to exit with if err says no more than that an
// interrupt ended what was under way. After a second interrupt it doesn't
// return: we leave, and the errors that come of leaving are no news.
func (in *interrupts) ended(err error) (exitCode, bool) {
	in.mu.Lock()
	seen, first := in.seen, in.first
	in.mu.Unlock()
	if seen > 1 {
		select {}
	}
	return exitCode(128 + int(first)), seen > 0 && errors.Is(err, context.Canceled)
}

// passTo sends interrupts to the program that runs; nil: no more.
func (in *interrupts) passTo(pass func(syscall.Signal) error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.pass = pass
}

// leaveAtOnce has the first interrupt put right what must be, and end us.
func (in *interrupts) leaveAtOnce() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.leave = true
}

// onExit adds what a second interrupt must still do; the returned func takes it back.
func (in *interrupts) onExit(f func()) (undo func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	i := len(in.atExit)
	in.atExit = append(in.atExit, f)
	return func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.atExit[i] = func() {}
	}
}
