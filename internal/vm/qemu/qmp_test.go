package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

const greeting = `{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":"x"},"capabilities":["oob"]}}` + "\n"

// serveQMP answers commands with what reply makes of them.
func serveQMP(t *testing.T, reply func(command string, id uint64) string) net.Conn {
	t.Helper()
	host, peer := net.Pipe()
	t.Cleanup(func() { _ = peer.Close() })
	go func() {
		if _, err := io.WriteString(peer, greeting); err != nil {
			return
		}
		lines := bufio.NewScanner(peer)
		for lines.Scan() {
			var c struct {
				Execute string
				ID      uint64
			}
			if json.Unmarshal(lines.Bytes(), &c) != nil {
				return
			}
			answer := fmt.Sprintf(`{"return":{},"id":%d}`, c.ID)
			if c.Execute != "qmp_capabilities" {
				answer = reply(c.Execute, c.ID)
			}
			if _, err := io.WriteString(peer, answer+"\n"); err != nil {
				return
			}
		}
	}()
	return host
}

func TestQMP(t *testing.T) {
	events := make(chan qmpEvent, 4)
	conn := serveQMP(t, func(c string, id uint64) string {
		if c == "stop" {
			return fmt.Sprintf(`{"event":"STOP","data":{}}`+"\n"+`{"return":{},"id":%d}`, id)
		}
		return fmt.Sprintf(`{"error":{"class":"GenericError","desc":"no %s today"},"id":%d}`, c, id)
	})
	q, err := newQMP(t.Context(), conn, func(e qmpEvent) { events <- e })
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if q.version != "7.2.22" {
		t.Errorf("version %q", q.version)
	}
	if err := q.do(t.Context(), "stop", nil, nil); err != nil {
		t.Error(err)
	}
	if e := <-events; e.Event != "STOP" {
		t.Errorf("event %+v", e)
	}
	var qe *qmpError
	if err := q.do(t.Context(), "cont", nil, nil); !errors.As(err, &qe) || qe.Desc != "no cont today" {
		t.Errorf("got %v", err)
	}
}

// TestQMPSilence: a QEMU that doesn't answer costs no more than the caller's time.
func TestQMPSilence(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conn := serveQMP(t, func(string, uint64) string { cancel(); return "" })
	q, err := newQMP(t.Context(), conn, func(qmpEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.do(ctx, "stop", nil, nil); err == nil {
		t.Error("no answer, no error")
	}
	_ = q.Close()
	if err := q.do(t.Context(), "stop", nil, nil); err == nil {
		t.Error("a closed connection answered")
	}
}

// FuzzQMP feeds whatever a QEMU that a guest broke into may send.
func FuzzQMP(f *testing.F) {
	for _, s := range []string{"", "{}", greeting, greeting + `{"return":{},"id":1}`, greeting + `{"return":{},"id":1}` + "\n" + `{"event":"STOP"}`,
		`{"QMP":{}}` + "\n" + `{"id":-1}`, greeting + `{"return":{},"id":1}` + "\n[]", strings.Repeat("x", 5000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, peer := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, peer) }()
		go func() {
			_, _ = io.WriteString(peer, s+"\n")
			_ = peer.Close()
		}()
		q, err := newQMP(t.Context(), host, func(qmpEvent) {})
		if err != nil {
			return
		}
		_ = q.do(t.Context(), "query-status", nil, new(struct{ Status string }))
		_ = q.Close()
	})
}
