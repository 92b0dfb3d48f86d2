package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmpLine is the longest message that is taken: the whole console ring in
// base64 is a sixth of it. Who sends more is no QEMU, or no longer one.
const qmpLine = 1 << 20

// errQMPClosed ends every command when the connection does.
var errQMPClosed = errors.New("QEMU's control socket closed")

// qmp is one connection to QEMU's control socket.
type qmp struct {
	conn    net.Conn
	version string

	writing sync.Mutex
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan qmpReply
	closed  chan struct{}
	onEvent func(qmpEvent) // on the reading goroutine: must not block
}

type qmpReply struct {
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	ID     uint64          `json:"id"`
	qmpEvent
}

type qmpEvent struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// qmpError is QEMU's own word for what went wrong.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Desc }

// newQMP takes conn over and shakes hands. QEMU greets when its machine is
// made, so that the greeting also says that it took its command line.
func newQMP(ctx context.Context, conn net.Conn, onEvent func(qmpEvent)) (*qmp, error) {
	q := &qmp{conn: conn, waiting: map[uint64]chan qmpReply{}, closed: make(chan struct{}), onEvent: onEvent}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 4096), qmpLine)
	var hello struct {
		QMP *struct {
			Version struct {
				QEMU struct{ Major, Minor, Micro int } `json:"qemu"`
			} `json:"version"`
		} `json:"QMP"`
	}
	greeted := lines.Scan() && json.Unmarshal(lines.Bytes(), &hello) == nil && hello.QMP != nil
	if !stop() || !greeted {
		_ = conn.Close()
		return nil, errors.Join(ctx.Err(), errors.New("QEMU sent no greeting"))
	}
	v := hello.QMP.Version.QEMU
	q.version = fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro)
	go q.read(lines)
	if err := q.do(ctx, "qmp_capabilities", nil, nil); err != nil {
		_ = q.Close()
		return nil, err
	}
	return q, nil
}

// read hands every reply to who waits for it, until the connection ends.
func (q *qmp) read(lines *bufio.Scanner) {
	defer close(q.closed)
	defer q.conn.Close()
	for lines.Scan() {
		var r qmpReply
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			return
		}
		if r.Event != "" {
			q.onEvent(r.qmpEvent)
			continue
		}
		q.mu.Lock()
		c := q.waiting[r.ID]
		delete(q.waiting, r.ID)
		q.mu.Unlock()
		if c != nil {
			c <- r // has room for the one reply
		}
	}
}

// do runs one command and unmarshals what it returns into out, if not nil.
func (q *qmp) do(ctx context.Context, command string, args, out any) error {
	c := make(chan qmpReply, 1)
	q.mu.Lock()
	q.next++
	id := q.next
	q.waiting[id] = c
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		delete(q.waiting, id)
		q.mu.Unlock()
	}()
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		return fmt.Errorf("QEMU command %q: %w", command, err)
	}
	if err := q.write(ctx, append(line, '\n')); err != nil {
		return fmt.Errorf("QEMU command %q: %w", command, err)
	}
	select {
	case r := <-c:
		if r.Error != nil {
			return fmt.Errorf("QEMU command %q: %w", command, r.Error)
		}
		if out != nil {
			if err := json.Unmarshal(r.Return, out); err != nil {
				return fmt.Errorf("QEMU command %q: reading its answer: %w", command, err)
			}
		}
		return nil
	case <-q.closed:
		return fmt.Errorf("QEMU command %q: %w", command, errQMPClosed)
	case <-ctx.Done():
		return fmt.Errorf("QEMU command %q: %w", command, ctx.Err())
	}
}

// write sends a whole line or ends the connection: half of one would spoil the
// next. A QEMU that doesn't read for ten seconds has gone.
func (q *qmp) write(ctx context.Context, line []byte) error {
	q.writing.Lock()
	defer q.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	_ = q.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := q.conn.Write(line); err != nil {
		_ = q.conn.Close()
		return err
	}
	return nil
}

// Close ends the connection and returns when its goroutine has ended.
func (q *qmp) Close() error {
	err := q.conn.Close()
	<-q.closed
	return err
}
