package server

import (
	"io"
	"sync"

	"github.com/bandsox/bandsox/internal/api"
)

// input is what a client has sent for a program and it has not yet taken: an
// io.Reader. A client that heeds what it is told of what was taken is never
// waited for, so that its signals, and its leaving, are always noticed.
type input struct {
	taken func(total int64) // told now and then; nil: nobody

	mu    sync.Mutex
	wake  *sync.Cond
	parts [][]byte
	size  int
	total int64
	last  int64 // what was told of total
	ended bool  // nothing more comes
	dead  bool  // nobody takes it any more
}

func newInput(taken func(int64)) *input {
	in := &input{taken: taken}
	in.wake = sync.NewCond(&in.mu)
	return in
}

// put adds b, and waits while there is much.
func (in *input) put(b []byte) error {
	if in == nil {
		return invalid("the program has no input that could be written to")
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.size > api.StdinWindow && !in.dead {
		in.wake.Wait()
	}
	if in.ended && !in.dead {
		return invalid("the program's input was closed before")
	}
	if len(b) > 0 && !in.dead {
		in.parts = append(in.parts, b)
		in.size += len(b)
		in.wake.Broadcast()
	}
	return nil
}

// end says that nothing more comes.
func (in *input) end() error {
	if in == nil {
		return invalid("the program has no input that could be closed")
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = true
	in.wake.Broadcast()
	return nil
}

// abandon says that nobody takes it any more.
func (in *input) abandon() {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.dead, in.parts, in.size = true, nil, 0
	in.wake.Broadcast()
}

// Read waits for input.
func (in *input) Read(p []byte) (int, error) {
	in.mu.Lock()
	for len(in.parts) == 0 && !in.ended && !in.dead {
		in.wake.Wait()
	}
	if len(in.parts) == 0 {
		in.mu.Unlock()
		return 0, io.EOF
	}
	n := copy(p, in.parts[0])
	if in.parts[0] = in.parts[0][n:]; len(in.parts[0]) == 0 {
		in.parts = in.parts[1:]
	}
	in.size -= n
	in.total += int64(n)
	total := in.total
	tell := in.taken != nil && total-in.last >= api.StdinWindow/4
	if tell {
		in.last = total
	}
	in.wake.Broadcast()
	in.mu.Unlock()
	if tell {
		in.taken(total)
	}
	return n, nil
}
