package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// hostile is what a program does that means harm, or does not care.
func hostile(what string, args []string) (known bool, err error) {
	switch what {
	case "eat": // memory, until that is the end
		for kept := [][]byte{}; ; {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
			runtime.KeepAlive(kept)
		}
	case "signals": // all there are, to PID 1
		for sig := syscall.Signal(1); sig <= 64; sig++ {
			if err := syscall.Kill(1, sig); err != nil {
				return true, fmt.Errorf("signal %d: %w", sig, err)
			}
		}
		return true, nil
	case "bomb": // every process makes more of them, for ever
		for {
			// Not os/exec: a process is to cost next to nothing. In the children
			// there is no Go runtime any more, so this must stay a plain loop.
			_, _, _ = syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
		}
	case "hush": // closes what it was given, and goes on for a while
		for fd := range 3 {
			if err := syscall.Close(fd); err != nil {
				os.Exit(1)
			}
		}
		time.Sleep(300 * time.Millisecond)
		os.Exit(7)
	case "daemon": // leaves a grandchild in a session of its own, which holds our output
		if err := detached("middle").Run(); err != nil {
			return true, err
		}
		fmt.Println("left")
		os.Exit(5)
	case "middle":
		return true, detached("linger").Start()
	case "linger": // says something now and then, for as long as anyone can hear it
		for {
			if _, err := fmt.Println("still here"); err != nil {
				return true, err
			}
			time.Sleep(50 * time.Millisecond)
		}
	case "fill": // PATH MIB: writes so much, or until nothing fits any more: exit code 28
		err := fill(args[0], args[1])
		if errors.Is(err, syscall.ENOSPC) {
			os.Exit(int(syscall.ENOSPC))
		}
		return true, err
	case "delete": // PATH
		if err := os.Remove(args[0]); err != nil {
			return true, err
		}
		syscall.Sync()
		return true, nil
	}
	return false, nil
}

// detached is this program again, in a session of its own.
func detached(word string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], word)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func fill(path, mib string) error {
	var n int
	if _, err := fmt.Sscan(mib, &n); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i%255) + 1
	}
	for range n {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return f.Sync()
}
