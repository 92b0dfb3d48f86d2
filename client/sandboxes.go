package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// Sandbox is one microVM of a server. Its methods may be called by many
// goroutines at once.
type Sandbox struct {
	c  *Client
	id string

	lease io.Closer // of one that lives as long as its creator
}

// Create makes a sandbox from an image and returns when programs can be run in
// it. On error nothing of it is left. What bandsox.WithProgress gave ctx is told
// how long it takes. With AutoRemove the sandbox is deleted when this program
// ends, or Close is called.
func (c *Client) Create(ctx context.Context, o bandsox.CreateOptions) (*Sandbox, error) {
	var made api.Created
	if bandsox.ProgressOf(ctx) == nil && !o.AutoRemove {
		if err := c.call(ctx, "create", o.Image, http.MethodPost, "/api/vms", nil, api.NewCreateVM(o), &made); err != nil {
			return nil, err
		}
		return &Sandbox{c: c, id: made.ID}, nil
	}
	// The answer's stream outlives ctx where it is the sandbox's lease.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end)
	resp, err := c.send(life, "create", o.Image, http.MethodPost, "/api/vms", nil, strings.NewReader(string(api.JSON(api.NewCreateVM(o)))), http.Header{
		"Accept": {"text/event-stream"}, "Content-Type": {"application/json"}})
	if err != nil {
		stop()
		end()
		return nil, failure("create", o.Image, ctxOr(ctx, err))
	}
	lease := closer(func() error { end(); return resp.Body.Close() })
	fail := func(err error) (*Sandbox, error) {
		stop()
		_ = lease.Close()
		return nil, failure("create", o.Image, ctxOr(ctx, err))
	}
	for m, err := range messages(life, resp.Body) {
		if err != nil {
			return fail(err)
		}
		switch m.kind {
		case "progress":
			tellProgress(ctx, m)
		case "error":
			return fail(eventError("create", o.Image, m))
		case "created":
			if err := json.Unmarshal(m.data, &made); err != nil {
				return fail(err)
			}
			if !stop() { // ctx has ended
				return fail(context.Cause(ctx))
			}
			if !o.AutoRemove {
				return &Sandbox{c: c, id: made.ID}, lease.Close()
			}
			go func() { _, _ = io.Copy(io.Discard, resp.Body) }() // its heartbeat; ends with the lease
			return &Sandbox{c: c, id: made.ID, lease: lease}, nil
		}
	}
	return fail(io.ErrUnexpectedEOF)
}

type closer func() error

func (c closer) Close() error { return c() }

// Get finds a sandbox by id or name.
func (c *Client) Get(ctx context.Context, ref string) (*Sandbox, error) {
	var info bandsox.Info
	if err := c.call(ctx, "get", ref, http.MethodGet, vmPath(ref), nil, nil, &info); err != nil {
		return nil, err
	}
	return &Sandbox{c: c, id: info.ID}, nil
}

// vmPath is the path of a sandbox, and of what belongs to it.
func vmPath(ref string, rest ...string) string {
	path := "/api/vms/" + url.PathEscape(ref)
	for _, part := range rest {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// List returns the sandboxes, the newest first.
func (c *Client) List(ctx context.Context, o bandsox.ListOptions) ([]bandsox.Info, error) {
	q := url.Values{}
	for _, s := range o.States {
		q.Add("state", string(s))
	}
	if len(o.States) > 0 {
		q.Set("state", strings.Join(q["state"], ","))
	}
	for k, v := range o.Labels {
		q.Add("label", k+"="+v)
	}
	if len(o.Metadata) > 0 {
		b, err := json.Marshal(o.Metadata)
		if err != nil {
			return nil, failure("list", "", wire.Errorf(wire.Invalid, "%w", err))
		}
		q.Set("metadata_equals", string(b))
	}
	if o.Limit != 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.After != "" {
		q.Set("after", o.After)
	}
	var list []bandsox.Info
	err := c.get(ctx, "list", "/api/vms", q, &list)
	return list, err
}

// ID is the sandbox's id.
func (sb *Sandbox) ID() string { return sb.id }

// call is Client.call about this sandbox.
func (sb *Sandbox) call(ctx context.Context, op, method, path string, query url.Values, in, out any) error {
	full := vmPath(sb.id)
	if path != "" {
		full += "/" + path
	}
	return sb.c.call(ctx, op, sb.id, method, full, query, in, out)
}

// Info returns what is known of the sandbox now.
func (sb *Sandbox) Info(ctx context.Context) (bandsox.Info, error) {
	var info bandsox.Info
	err := sb.call(ctx, "info", http.MethodGet, "", nil, nil, &info)
	return info, err
}

// Start boots a stopped sandbox again, with the disk it has.
func (sb *Sandbox) Start(ctx context.Context) error {
	return sb.call(ctx, "start", http.MethodPost, "start", nil, nil, nil)
}

// Stop ends the sandbox's programs, writes its disk out and powers it off.
// Grace is the time between SIGTERM and SIGKILL.
func (sb *Sandbox) Stop(ctx context.Context, grace time.Duration) error {
	return sb.call(ctx, "stop", http.MethodPost, "stop", graceQuery(grace), nil, nil)
}

// Restart stops and starts the sandbox.
func (sb *Sandbox) Restart(ctx context.Context, grace time.Duration) error {
	return sb.call(ctx, "restart", http.MethodPost, "restart", graceQuery(grace), nil, nil)
}

func graceQuery(grace time.Duration) url.Values {
	return url.Values{"grace": {strconv.FormatFloat(grace.Seconds(), 'f', -1, 64)}}
}

// Kill ends the sandbox's machine at once, as a power cut would.
func (sb *Sandbox) Kill(ctx context.Context) error {
	return sb.call(ctx, "kill", http.MethodPost, "kill", nil, nil, nil)
}

// Pause stops the sandbox's processors; Resume lets them go on.
func (sb *Sandbox) Pause(ctx context.Context) error {
	return sb.call(ctx, "pause", http.MethodPost, "pause", nil, nil, nil)
}

// Resume lets a paused sandbox go on.
func (sb *Sandbox) Resume(ctx context.Context) error {
	return sb.call(ctx, "resume", http.MethodPost, "resume", nil, nil, nil)
}

// Delete throws the sandbox away, running or not. Deleting it twice is no
// error.
func (sb *Sandbox) Delete(ctx context.Context) error {
	err := sb.call(ctx, "delete", http.MethodDelete, "", nil, nil, nil)
	if err == nil {
		err = sb.Close()
	}
	return err
}

// Close gives up the lease of a sandbox that was created with AutoRemove: the
// server deletes it. Of any other it does nothing.
func (sb *Sandbox) Close() error {
	if sb.lease == nil {
		return nil
	}
	_ = sb.lease.Close()
	return nil
}

// Update changes the sandbox.
func (sb *Sandbox) Update(ctx context.Context, u bandsox.Update) error {
	return sb.call(ctx, "update", http.MethodPatch, "", nil, api.NewUpdateVM(u), nil)
}

// Stats returns the sandbox's figures.
func (sb *Sandbox) Stats(ctx context.Context) (bandsox.Stats, error) {
	var s bandsox.Stats
	err := sb.call(ctx, "stats", http.MethodGet, "stats", nil, nil, &s)
	return s, err
}

// Wait returns when the sandbox is in the state: at once if it is.
func (sb *Sandbox) Wait(ctx context.Context, state bandsox.State) error {
	err := sb.call(ctx, "wait", http.MethodGet, "wait", url.Values{"state": {string(state)}}, nil, nil)
	switch {
	case state == bandsox.StateDeleted && isNotFound(err):
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()): // say what it is instead
		look, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if info, lerr := sb.Info(look); lerr == nil {
			why := wire.Errorf(wire.Timeout, "sandbox %s is %s, not %s", sb.id, info.Status, state)
			if errors.Is(err, context.Canceled) {
				why.Code = wire.Unavailable
			}
			return failure("wait", sb.id, errors.Join(why, err))
		}
	}
	return err
}

// Console returns what the guest's kernel and agent have printed, the newest
// part of it.
func (sb *Sandbox) Console(ctx context.Context) (io.ReadCloser, error) {
	resp, err := sb.c.send(ctx, "console", sb.id, http.MethodGet, vmPath(sb.id, "console"), nil, nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
