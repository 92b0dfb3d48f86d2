// Guest is the program in the benchmark's image: static, so that the image
// needs nothing else. It says a word, gives or takes bytes, or does the same
// over a raw virtio-serial port, to compare with.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: guest true | say WORD | give BYTES | take | echo | sleep | port NAME")
	}
	switch args[0] {
	case "true":
		return nil
	case "say":
		_, err := fmt.Println(strings.Join(args[1:], " "))
		return err
	case "give":
		n, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		return give(os.Stdout, n)
	case "take":
		n, err := io.Copy(io.Discard, os.Stdin)
		fmt.Println(n)
		return err
	case "echo":
		return echo(os.Stdin, os.Stdout)
	case "sleep":
		time.Sleep(time.Hour)
		return nil
	case "port":
		return port(args[1])
	}
	return fmt.Errorf("unknown word %q", args[0])
}

func give(w io.Writer, n int64) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		k, err := w.Write(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

// echo answers every read by the same bytes.
func echo(r io.Reader, w io.Writer) error {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// port serves a virtio-serial port: 'e' is answered by 'e'; 'g' and twelve
// decimal digits by so many bytes of a file in memory; 't', twelve digits and so
// many bytes for such a file by 't'.
func port(name string) error {
	paths, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil || strings.TrimSpace(string(b)) != name {
			continue
		}
		f, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(p)), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		fmt.Println("ready")
		return servePort(f)
	}
	return fmt.Errorf("no port %q", name)
}

const source = "/dev/shm/source"

// giveFile writes the first n bytes of source, which it makes long enough.
func giveFile(w io.Writer, n int64) error {
	f, err := os.OpenFile(source, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Size() < n {
		if err := give(f, n); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	buf := make([]byte, 64<<10)
	for n > 0 {
		k, err := f.Read(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return err
		}
		if _, err := w.Write(buf[:k]); err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

// takeFile reads n bytes into a file in memory and says so by a byte.
func takeFile(w io.Writer, r io.Reader, n int64) error {
	f, err := os.Create("/dev/shm/sink")
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for n > 0 {
		k, err := r.Read(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return err
		}
		if _, err := f.Write(buf[:k]); err != nil {
			return err
		}
		n -= int64(k)
	}
	_, err = w.Write([]byte{'t'})
	return err
}

// patient reads from a port, where nobody at the other end looks like the end.
type patient struct{ f *os.File }

func (p patient) Read(b []byte) (int, error) {
	for {
		n, err := p.f.Read(b)
		if n > 0 || err != nil && err != io.EOF {
			return n, err
		}
		time.Sleep(time.Millisecond)
	}
}

func servePort(f *os.File) error {
	word := make([]byte, 1+12)
	in := patient{f}
	for {
		if _, err := io.ReadFull(in, word[:1]); err != nil {
			return err
		}
		switch word[0] {
		case 'e':
			if _, err := f.Write(word[:1]); err != nil {
				return err
			}
		case 'g', 't':
			do := giveFile
			if word[0] == 't' {
				do = func(w io.Writer, n int64) error { return takeFile(w, in, n) }
			}
			if _, err := io.ReadFull(in, word[1:]); err != nil {
				return err
			}
			n, err := strconv.ParseInt(string(word[1:]), 10, 64)
			if err != nil {
				return err
			}
			if err := do(f, n); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown word %q", word[0])
		}
	}
}
