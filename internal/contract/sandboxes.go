package contract

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

func life(t *testing.T, h House) {
	ctx := t.Context()
	var told atomic.Int64
	b, err := h.Create(bandsox.WithProgress(ctx, func(string, int64, int64) { told.Add(1) }),
		bandsox.CreateOptions{Image: vmtest.Image(t), Name: "ann", VCPU: 2, MemMiB: 256, Env: map[string]string{"A": "b"},
			Metadata: map[string]any{"n": 1.5}, Labels: map[string]string{"team": "red"}})
	ok(t, "create", err)
	info, err := b.Info(ctx)
	ok(t, "info", err)
	if info.ID != b.ID() || info.Name != "ann" || info.Status != bandsox.StateRunning || info.VCPU != 2 || info.MemMiB != 256 ||
		info.DiskSizeMiB != bandsox.DefaultDiskSizeMiB || info.Env["A"] != "b" || info.Metadata["n"] != 1.5 || info.Labels["team"] != "red" ||
		!info.AgentReady || info.CreatedAt.IsZero() || info.Digest == "" || len(info.Phases) == 0 {
		t.Errorf("got %+v", info)
	}
	if told.Load() == 0 {
		t.Error("nobody was told how far the create was")
	}
	stats, err := b.Stats(ctx)
	if err != nil || stats.ID != b.ID() || !stats.Guest || stats.VCPU != 2 {
		t.Errorf("stats: %+v %v", stats, err)
	}
	console, err := b.Console(ctx)
	ok(t, "console", err)
	ok(t, "console", console.Close())

	ok(t, "pause", b.Pause(ctx))
	ok(t, "pause again", b.Pause(ctx))
	inState(t, b, bandsox.StatePaused)
	ok(t, "resume", b.Resume(ctx))
	inState(t, b, bandsox.StateRunning)
	ok(t, "restart", b.Restart(ctx, time.Second))
	inState(t, b, bandsox.StateRunning)
	ok(t, "stop", b.Stop(ctx, time.Second))
	inState(t, b, bandsox.StateStopped)
	ok(t, "start", b.Start(ctx))
	ok(t, "kill", b.Kill(ctx))
	inState(t, b, bandsox.StateStopped)
	ok(t, "delete", b.Delete(ctx))
	ok(t, "delete again", b.Delete(ctx))
	_, err = b.Info(ctx)
	is(t, "info of a deleted one", err, bandsox.ErrNotFound)
}

func names(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{Name: "ann"})
	for _, ref := range []string{"ann", b.ID(), b.ID()[:5]} {
		if got, err := h.Get(ctx, ref); err != nil || got.ID() != b.ID() {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"", "bob", "../ann", "ann/x", "a b", "%00", b.ID()[:3]} {
		_, err := h.Get(ctx, ref)
		is(t, "get "+ref, err, bandsox.ErrNotFound)
	}
	_, err := h.Create(ctx, bandsox.CreateOptions{Image: vmtest.Image(t), Name: "ann"})
	is(t, "a name that is taken", err, bandsox.ErrConflict)
	name := "bob"
	ok(t, "rename", b.Update(ctx, bandsox.Update{Name: &name}))
	_, err = h.Get(ctx, "ann")
	is(t, "the name before", err, bandsox.ErrNotFound)
	if got, err := h.Get(ctx, "bob"); err != nil || got.ID() != b.ID() {
		t.Errorf("the new name: %v", err)
	}
}

func lists(t *testing.T, h House) {
	ctx := t.Context()
	image := vmtest.Image(t)
	for _, n := range []string{"one", "two", "three"} {
		box(t, h, bandsox.CreateOptions{Image: image, Name: n, Labels: map[string]string{"n": n, "k": "a=b&c"}, Metadata: map[string]any{"who": map[string]any{"name": n}}})
	}
	two, err := h.Get(ctx, "two")
	ok(t, "get", err)
	ok(t, "stop", two.Stop(ctx, time.Second))
	for _, c := range []struct {
		what string
		o    bandsox.ListOptions
		want []string
	}{
		{"all", bandsox.ListOptions{}, []string{"three", "two", "one"}},
		{"a label", bandsox.ListOptions{Labels: map[string]string{"n": "two", "k": "a=b&c"}}, []string{"two"}},
		{"metadata", bandsox.ListOptions{Metadata: map[string]any{"who.name": "one"}}, []string{"one"}},
		{"a state", bandsox.ListOptions{States: []bandsox.State{bandsox.StateStopped}}, []string{"two"}},
		{"states", bandsox.ListOptions{States: []bandsox.State{bandsox.StateStopped, bandsox.StateRunning}}, []string{"three", "two", "one"}},
		{"a page", bandsox.ListOptions{Limit: 2}, []string{"three", "two"}},
		{"nothing", bandsox.ListOptions{Labels: map[string]string{"n": "four"}}, nil},
	} {
		list, err := h.List(ctx, c.o)
		var got []string
		for _, i := range list {
			got = append(got, i.Name)
		}
		if err != nil || list == nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v (%v), want %v", c.what, got, err, c.want)
		}
		if c.what == "a page" && len(list) == 2 {
			rest, err := h.List(ctx, bandsox.ListOptions{Limit: 2, After: list[1].Cursor()})
			if err != nil || len(rest) != 1 || rest[0].Name != "one" {
				t.Errorf("the next page: %v %v", rest, err)
			}
		}
	}
	_, err = h.List(ctx, bandsox.ListOptions{After: "nonsense"})
	is(t, "a cursor that is none", err, bandsox.ErrInvalid)
	_, err = h.List(ctx, bandsox.ListOptions{States: []bandsox.State{"nonsense"}})
	is(t, "a state that is none", err, bandsox.ErrInvalid)
}

func refusals(t *testing.T, h House) {
	ctx := t.Context()
	for what, o := range map[string]bandsox.CreateOptions{
		"no image":     {},
		"many cpus":    {Image: "x", VCPU: 1000},
		"little mem":   {Image: "x", MemMiB: 1},
		"a bad name":   {Image: "x", Name: "../x"},
		"a bad env":    {Image: "x", Env: map[string]string{"A=B": "c"}},
		"a bad policy": {Image: "x", Pull: "sometimes"},
	} {
		_, err := h.Create(ctx, o)
		is(t, what, err, bandsox.ErrInvalid)
	}
	_, err := h.Create(ctx, bandsox.CreateOptions{Image: "none", Pull: bandsox.PullNever})
	is(t, "an image that isn't there", err, bandsox.ErrNotFound)

	b := box(t, h, bandsox.CreateOptions{})
	is(t, "start of a running one", b.Start(ctx), bandsox.ErrConflict)
	ok(t, "stop", b.Stop(ctx, time.Second))
	is(t, "stop of a stopped one", b.Stop(ctx, time.Second), bandsox.ErrConflict)
	is(t, "pause of a stopped one", b.Pause(ctx), bandsox.ErrConflict)
	is(t, "resume of a stopped one", b.Resume(ctx), bandsox.ErrConflict)

	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := h.Create(gone, bandsox.CreateOptions{Image: vmtest.Image(t)}); err == nil {
		t.Error("a create whose caller had left succeeded")
	}
}

func updates(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{Metadata: map[string]any{"a": "1", "b": "2"}, Labels: map[string]string{"x": "1", "y": "2"}})
	ttl, idle, action, z := time.Hour, 90*time.Second, bandsox.IdleStop, "3"
	ok(t, "update", b.Update(ctx, bandsox.Update{Metadata: map[string]any{"a": nil, "c": "3"}, Labels: map[string]*string{"x": nil, "z": &z},
		TTL: &ttl, IdleTimeout: &idle, IdleAction: &action}))
	info, err := b.Info(ctx)
	ok(t, "info", err)
	_, a := info.Metadata["a"]
	if a || info.Metadata["b"] != "2" || info.Metadata["c"] != "3" || info.Labels["x"] != "" || info.Labels["y"] != "2" || info.Labels["z"] != "3" ||
		info.IdleTimeout != idle || info.IdleAction != action || time.Until(info.ExpiresAt) < 50*time.Minute {
		t.Errorf("got %+v", info)
	}
	never := time.Duration(0)
	ok(t, "update", b.Update(ctx, bandsox.Update{Metadata: map[string]any{"only": true}, ReplaceMetadata: true, TTL: &never, IdleTimeout: &never}))
	info, err = b.Info(ctx)
	if err != nil || len(info.Metadata) != 1 || !info.ExpiresAt.IsZero() || info.IdleTimeout != 0 {
		t.Errorf("got %+v %v", info, err)
	}
	less := 64
	is(t, "a smaller disk", b.Update(ctx, bandsox.Update{DiskSizeMiB: &less}), bandsox.ErrInvalid)
	bad := "../x"
	is(t, "a bad name", b.Update(ctx, bandsox.Update{Name: &bad}), bandsox.ErrInvalid)
}

func waits(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{})
	ok(t, "wait for what is", b.Wait(ctx, bandsox.StateRunning))
	is(t, "wait for no state", b.Wait(ctx, "nonsense"), bandsox.ErrInvalid)
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	is(t, "wait too long", b.Wait(soon, bandsox.StatePaused), bandsox.ErrTimeout)
	stopped := make(chan error, 1)
	go func() { stopped <- b.Wait(ctx, bandsox.StateStopped) }()
	ok(t, "stop", b.Stop(ctx, time.Second))
	ok(t, "wait", <-stopped)
	gone := make(chan error, 1)
	go func() { gone <- b.Wait(ctx, bandsox.StateDeleted) }()
	ok(t, "delete", b.Delete(ctx))
	ok(t, "wait for the end", <-gone)
}
