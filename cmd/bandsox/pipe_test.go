package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// tarMiB is what is unpacked in a guest, echoMiB what goes there and back: many
// times what all the buffers on the way hold.
const tarMiB, echoMiB = 200, 64

// noise is so many bytes that don't repeat: what is lost, doubled or swapped shows.
func noise(seed byte, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)
}

// counter is a hash that knows how much went into it.
type counter struct {
	hash.Hash
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.Hash.Write(p)
}

func (c *counter) String() string { return fmt.Sprintf("%d bytes, sha256 %x", c.n, c.Sum(nil)) }

func newCounter() *counter { return &counter{Hash: sha256.New()} }

// TestPipeKeepsEveryByte sends noise through a guest's cat.
func TestPipeKeepsEveryByte(t *testing.T) {
	l := newLab(t)
	sent, got := newCounter(), newCounter()
	r := &running{Cmd: l.command("run", "-i", l.image, "cat")}
	r.Stdin = io.TeeReader(noise(1, echoMiB<<20), sent)
	r.Stdout, r.Stderr = got, &r.err
	r.begin(t)
	r.ends(t, 10*time.Minute, 0)
	if sent.n != echoMiB<<20 || sent.String() != got.String() {
		t.Errorf("sent %v, got %v", sent, got)
	}
	l.nothingLeft(t)
}

// TestTarThroughPipe is `tar c . | bandsox run -i IMAGE tar x`, with a look at
// what has been unpacked.
func TestTarThroughPipe(t *testing.T) {
	l := newLab(t)
	const files = 4
	var want bytes.Buffer
	archive, w := io.Pipe()
	sums := make(chan error, 1)
	go func() {
		tw := tar.NewWriter(w)
		err := func() error {
			for i := range files {
				h := &tar.Header{Name: fmt.Sprintf("file%d", i), Mode: 0o644, Size: tarMiB << 20 / files}
				if err := tw.WriteHeader(h); err != nil {
					return err
				}
				sum := sha256.New()
				if _, err := io.Copy(io.MultiWriter(tw, sum), noise(byte(i), h.Size)); err != nil {
					return err
				}
				fmt.Fprintf(&want, "%s  %s\n", hex.EncodeToString(sum.Sum(nil)), h.Name)
			}
			return tw.Close()
		}()
		w.CloseWithError(err)
		sums <- err
	}()
	r := &running{Cmd: l.command("run", "-i", "--workdir", "/root", l.image, "sh", "-c", "tar x && sha256sum file*")}
	r.Stdin, r.Stdout, r.Stderr = archive, &r.out, &r.err
	r.begin(t)
	r.ends(t, 10*time.Minute, 0)
	archive.Close()
	if err := <-sums; err != nil {
		t.Errorf("writing the archive: %v", err)
	}
	if got := r.out.String(); got != want.String() {
		t.Errorf("unpacked:\n%swant:\n%s", got, want.String())
	}
	l.nothingLeft(t)
}

// TestPipeThatNobodyReads: a program that doesn't read its input ends all the
// same, and takes its exit code along.
func TestPipeThatNobodyReads(t *testing.T) {
	l := newLab(t)
	input, w := io.Pipe()
	defer w.Close()
	r := &running{Cmd: l.command("run", "-i", l.image, "sh", "-c", "head -c 5; exit 4")}
	r.Stdout, r.Stderr = &r.out, &r.err
	stdin, err := r.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	r.begin(t)
	go func() {
		defer stdin.Close()
		_, _ = io.Copy(stdin, io.MultiReader(strings.NewReader("hello"), noise(2, 64<<20), input)) // and never an end
	}()
	r.ends(t, 5*time.Minute, 4)
	if got := r.out.String(); got != "hello" {
		t.Errorf("output %q", got)
	}
	l.nothingLeft(t)
}
