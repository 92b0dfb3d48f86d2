// Tool is what the contract suite runs in a machine: a base that holds it and
// nothing else boots everywhere, without a download.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(what string, args []string) error {
	switch what {
	case "both": // a word on each output, and an exit code of its own
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		os.Exit(3)
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "tick": // a line every 10 ms, for ever
		for i := 0; ; i++ {
			if _, err := fmt.Println(i); err != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "write": // PATH TEXT: there when this has ended, whatever comes then
		f, err := os.Create(args[0])
		if err != nil {
			return err
		}
		if _, err := f.WriteString(args[1]); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		dir, err := os.Open(filepath.Dir(args[0]))
		if err != nil {
			return err
		}
		return dir.Sync()
	case "print": // KIB WORD: to the console, the word last
		kib, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		f, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		line := append(bytes.Repeat([]byte{'x'}, 1023), '\n')
		for range kib {
			if _, err := f.Write(line); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintln(f, args[1])
		return err
	case "sysrq": // LETTER
		return os.WriteFile("/proc/sysrq-trigger", []byte(args[0]), 0)
	case "id":
		groups, err := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), groups, os.Getenv("HOME"))
		return err
	case "reboot":
		return syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	}
	if known, err := hostile(what, args); known {
		return err
	}
	return fmt.Errorf("no such thing: %s", what)
}
