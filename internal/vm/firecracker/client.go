package firecracker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// client speaks to one Firecracker's interface. It takes one request after the
// other, whoever sends them.
type client struct {
	http    *http.Client
	version version // not set: the newest
}

// maxAnswer is far more than any answer has.
const maxAnswer = 1 << 20

// newClient reaches the interface through dial.
func newClient(dial func(context.Context) (net.Conn, error)) *client {
	return &client{http: &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true,
		// There are ten places for connections, and an idle one takes two
		// goroutines of ours.
		DisableKeepAlives: true,
	}}}
}

// fault is Firecracker's own word for what went wrong.
type fault struct {
	status  int
	message string
}

func (f *fault) Error() string { return f.message }

// start reports which Firecracker it is, and has its version known from then on.
func (c *client) start(ctx context.Context) (instanceInfo, error) {
	info, err := c.info(ctx)
	if err == nil {
		c.version, err = parseVersion(info.VMMVersion)
	}
	return info, err
}

func (c *client) info(ctx context.Context) (info instanceInfo, err error) {
	return info, c.do(ctx, http.MethodGet, "/", nil, &info)
}

func (c *client) machine(ctx context.Context, m machineConfig) error {
	return c.do(ctx, http.MethodPut, "/machine-config", m, nil)
}

func (c *client) boot(ctx context.Context, b bootSource) error {
	return c.do(ctx, http.MethodPut, "/boot-source", b, nil)
}

func (c *client) drive(ctx context.Context, d driveConfig) error {
	return c.do(ctx, http.MethodPut, "/drives/"+d.DriveID, d, nil)
}

func (c *client) updateDrive(ctx context.Context, d driveUpdate) error {
	return c.do(ctx, http.MethodPatch, "/drives/"+d.DriveID, d, nil)
}

func (c *client) vsock(ctx context.Context, v vsockConfig) error {
	return c.do(ctx, http.MethodPut, "/vsock", v, nil)
}

func (c *client) instanceStart(ctx context.Context) error {
	return c.do(ctx, http.MethodPut, "/actions", action{"InstanceStart"}, nil)
}

func (c *client) setState(ctx context.Context, state string) error {
	return c.do(ctx, http.MethodPatch, "/vm", vmState{state}, nil)
}

func (c *client) createSnapshot(ctx context.Context, s snapshotCreate) error {
	return c.do(ctx, http.MethodPut, "/snapshot/create", s, nil)
}

// loadSnapshot restores. When it fails, Firecracker ends.
func (c *client) loadSnapshot(ctx context.Context, s snapshotLoad) error {
	return c.do(ctx, http.MethodPut, "/snapshot/load", s, nil)
}

// do sends one request, and unmarshals the answer into out, if not nil. The body
// is of a known length: Firecracker takes no chunks.
func (c *client) do(ctx context.Context, method, path string, body, out any) error {
	fail := func(err error) error { return fmt.Errorf("%s %s: %w", method, path, err) }
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fail(err)
		}
		if err := c.knows(path, b); err != nil {
			return fail(err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://firecracker"+path, content)
	if err != nil {
		return fail(err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fail(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return fail(faultOf(resp.StatusCode, answer))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fail(fmt.Errorf("reading the answer: %w", err))
	}
	return nil
}

func faultOf(status int, answer []byte) *fault {
	var said struct {
		Message string `json:"fault_message"`
	}
	if json.Unmarshal(answer, &said) != nil || said.Message == "" {
		said.Message = fmt.Sprintf("status %d: %.200q", status, answer)
	}
	return &fault{status, strings.TrimSpace(said.Message)}
}

// knows refuses what this version of Firecracker would.
func (c *client) knows(path string, body []byte) error {
	if c.version == (version{}) {
		return nil
	}
	route := path
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		for _, withID := range []string{"/drives", "/pmem", "/network-interfaces"} {
			if path[:i] == withID {
				route = withID
			}
		}
	}
	var sent map[string]json.RawMessage
	if err := json.Unmarshal(body, &sent); err != nil {
		return err
	}
	names := []string{route}
	for name := range sent {
		names = append(names, route+" "+name)
	}
	for _, name := range names {
		if first, ok := fields[name]; ok && c.version.before(first) {
			return wire.Errorf(wire.Unavailable, "Firecracker %s has no %q: it came with %s", c.version, name, first)
		}
	}
	return nil
}

// classify makes an error of ours of what the interface said, of code unless
// the words tell more.
func classify(ctx context.Context, err error, code wire.Code) (wire.Code, string) {
	var said *fault
	var ours *wire.Error
	switch {
	case errors.As(err, &said):
	case errors.As(err, &ours):
		return ours.Code, ours.Hint
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return wire.Timeout, ""
	default:
		return wire.Unavailable, ""
	}
	// Firecracker quotes the system's error with its number.
	for _, w := range faultWords {
		if strings.Contains(said.message, w.words) {
			return w.code, w.hint
		}
	}
	return code, ""
}

var faultWords = []struct {
	words string
	code  wire.Code
	hint  string
}{
	{"(os error 12)", wire.Exhausted, "give it less memory, or delete other sandboxes: bandsox list"},
	{"Cannot allocate memory", wire.Exhausted, "give it less memory, or delete other sandboxes: bandsox list"},
	{"(os error 28)", wire.Exhausted, "free some disk space: bandsox image prune"},
	{"(os error 24)", wire.Exhausted, ""},
	{"(os error 2)", wire.NotFound, ""},
	{"(os error 13)", wire.Denied, ""},
	{"(os error 98)", wire.Conflict, ""},
	{"/dev/kvm", wire.Unavailable, "bandsox doctor"},
	{"Kvm error", wire.Unavailable, "bandsox doctor"},
	{"KVM", wire.Unavailable, "bandsox doctor"},
}
