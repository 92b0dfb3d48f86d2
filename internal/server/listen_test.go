package server

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// lockedBuffer is written by the server's goroutines and read by the test's.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestPanicsAreSeen: a handler that panics is in the log, where a client that
// speaks no HTTP isn't.
func TestPanicsAreSeen(t *testing.T) {
	t.Parallel()
	var said lockedBuffer
	s := &Server{log: slog.New(slog.NewTextHandler(&said, nil)), root: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("by us") })}
	s.closing, s.close = context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, Listen{TCP: l}) }()
	resp, err := http.Get("http://" + l.Addr().String())
	if err == nil {
		resp.Body.Close()
		t.Errorf("it was answered: %s", resp.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(said.String(), "level=ERROR") || !strings.Contains(said.String(), "by us") {
		t.Errorf("the log: %s", &said)
	}
	before := len(said.String())
	if _, err := (faults{s.log}).Write([]byte("http: TLS handshake error from here: EOF\n")); err != nil || len(said.String()) != before {
		t.Errorf("the log: %s", &said)
	}
}
