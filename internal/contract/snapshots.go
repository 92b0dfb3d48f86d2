package contract

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
)

func snapshots(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{Name: "ann", Env: map[string]string{"A": "a", "B": "b"}})
	ok(t, "write", b.WriteFile(ctx, "/kept", []byte("then"), 0o644))
	first, err := b.Snapshot(ctx, bandsox.SnapshotOptions{Metadata: map[string]any{"n": 1.5}})
	ok(t, "snapshot", err)
	ok(t, "write", b.WriteFile(ctx, "/kept", []byte("now"), 0o644))
	second, err := b.Snapshot(ctx, bandsox.SnapshotOptions{Name: "later"})
	ok(t, "snapshot", err)

	info, err := first.Info(ctx)
	ok(t, "info", err)
	if info.ID != first.ID() || info.Name != "ann-1" || info.Source != b.ID() || info.Metadata["n"] != 1.5 || info.Status != "ready" ||
		info.CreatedAt.IsZero() || info.Digest == "" || info.DiskSizeMiB != bandsox.DefaultDiskSizeMiB {
		t.Errorf("got %+v", info)
	}
	if info, err := second.Info(ctx); err != nil || info.Parent != first.ID() {
		t.Errorf("the second's parent is %q (%v), not %s", info.Parent, err, first.ID())
	}
	list, err := h.Snapshots(ctx, bandsox.SnapshotListOptions{})
	if err != nil || len(list) != 2 || list[0].Name != "later" || list[1].ID != first.ID() {
		t.Errorf("the list: %+v %v", list, err)
	}
	for _, ref := range []string{"later", second.ID()} {
		if got, err := h.SnapshotOf(ctx, ref); err != nil || got.ID() != second.ID() {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"bob", "../later", "later/x", "a b", second.ID()[:5]} {
		_, err := h.SnapshotOf(ctx, ref)
		is(t, "snapshot "+ref, err, bandsox.ErrNotFound)
	}
	for _, o := range []bandsox.SnapshotOptions{{Name: "../x"}, {Name: "a b"}} {
		_, err = b.Snapshot(ctx, o)
		is(t, "a bad name", err, bandsox.ErrInvalid)
	}
	_, err = b.Snapshot(ctx, bandsox.SnapshotOptions{Name: "later"})
	is(t, "a name that is taken", err, bandsox.ErrConflict)

	name := "earlier"
	ok(t, "update", first.Update(ctx, bandsox.SnapshotUpdate{Name: &name, Metadata: map[string]any{"n": nil, "m": "x"}}))
	info, err = first.Info(ctx)
	if _, there := info.Metadata["n"]; err != nil || there || info.Metadata["m"] != "x" || info.Name != name {
		t.Errorf("updated: %+v %v", info, err)
	}
	ok(t, "update", first.Update(ctx, bandsox.SnapshotUpdate{Metadata: map[string]any{"only": true}, ReplaceMetadata: true}))
	if info, err := first.Info(ctx); err != nil || len(info.Metadata) != 1 {
		t.Errorf("replaced: %+v %v", info.Metadata, err)
	}
	taken := "later"
	is(t, "renamed to a name that is taken", first.Update(ctx, bandsox.SnapshotUpdate{Name: &taken}), bandsox.ErrConflict)
	restores(t, h, b, first, second)

	ok(t, "stop", b.Stop(ctx, time.Second))
	_, err = b.Snapshot(ctx, bandsox.SnapshotOptions{})
	is(t, "a snapshot of a stopped one", err, bandsox.ErrConflict)
	ok(t, "delete", first.Delete(ctx))
	ok(t, "delete", second.Delete(ctx))
	_, err = first.Info(ctx)
	is(t, "info of a deleted one", err, bandsox.ErrNotFound)
	_, err = first.Restore(ctx, bandsox.RestoreOptions{})
	is(t, "a restore of a deleted one", err, bandsox.ErrNotFound)
}

// restores makes sandboxes of the snapshots, and ends them.
func restores(t *testing.T, h House, b Box, first, second Shot) {
	t.Helper()
	ctx := t.Context()
	for shot, want := range map[Shot]string{first: "then", second: "now"} {
		again, err := shot.Restore(ctx, bandsox.RestoreOptions{Name: "again", Env: map[string]string{"B": "c"}, Labels: map[string]string{"k": "v"}})
		ok(t, "restore", err)
		if got, err := again.ReadFile(ctx, "/kept"); err != nil || string(got) != want {
			t.Errorf("the file is %q (%v), not %q", got, err, want)
		}
		info, err := again.Info(ctx)
		if err != nil || info.ID == b.ID() || info.Name != "again" || info.RestoredFrom != shot.ID() || info.Env["A"] != "a" || info.Env["B"] != "c" ||
			info.Labels["k"] != "v" || info.Status != bandsox.StateRunning {
			t.Errorf("restored: %+v %v", info, err)
		}
		is(t, "deleting one that is in use", shot.Delete(ctx), bandsox.ErrConflict)
		_, err = shot.Restore(ctx, bandsox.RestoreOptions{Name: "again"})
		is(t, "a name that is taken", err, bandsox.ErrConflict)
		ok(t, "delete", again.Delete(ctx))
	}
	if list, err := h.List(ctx, bandsox.ListOptions{}); err != nil || len(list) != 1 {
		t.Errorf("%d sandboxes are there (%v), not 1", len(list), err)
	}
}

func forks(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{Name: "ann", Metadata: map[string]any{"a": "1"}, Labels: map[string]string{"x": "1"}})
	ok(t, "write", b.WriteFile(ctx, "/kept", []byte("kept"), 0o644))
	kids, err := b.Fork(ctx, 3, bandsox.ForkOptions{Name: "kid", Metadata: map[string]any{"b": "2"}, Labels: map[string]string{"y": "2"}})
	ok(t, "fork", err)
	var names []string
	for _, kid := range kids {
		t.Cleanup(func() { ok(t, "delete", kid.Delete(context.WithoutCancel(ctx))) })
		info, err := kid.Info(ctx)
		if err != nil || info.Parent != b.ID() || info.Metadata["a"] != "1" || info.Metadata["b"] != "2" || info.Labels["x"] != "1" || info.Labels["y"] != "2" {
			t.Errorf("a child: %+v %v", info, err)
		}
		names = append(names, info.Name)
		if got, err := kid.ReadFile(ctx, "/kept"); err != nil || string(got) != "kept" {
			t.Errorf("a child's file: %q %v", got, err)
		}
		ok(t, "write", kid.WriteFile(ctx, "/kept", []byte(info.Name), 0o644))
	}
	if !slices.Equal(names, []string{"kid-1", "kid-2", "kid-3"}) {
		t.Errorf("the children are %v", names)
	}
	if got, err := b.ReadFile(ctx, "/kept"); err != nil || string(got) != "kept" {
		t.Errorf("the parent's file: %q %v", got, err)
	}
	if list, err := h.Snapshots(ctx, bandsox.SnapshotListOptions{}); err != nil || list == nil || len(list) != 0 {
		t.Errorf("what forks share is listed: %v %v", list, err)
	}
	_, err = b.Fork(ctx, 2, bandsox.ForkOptions{Name: "kid"})
	is(t, "names that are taken", err, bandsox.ErrConflict)
	for _, n := range []int{-1, 0, 10_000} {
		_, err = b.Fork(ctx, n, bandsox.ForkOptions{})
		is(t, "a bad count", err, bandsox.ErrInvalid)
	}
	if list, err := h.List(ctx, bandsox.ListOptions{}); err != nil || len(list) != 4 {
		t.Errorf("%d sandboxes are there (%v), not 4", len(list), err)
	}
	ok(t, "stop", b.Stop(ctx, time.Second))
	_, err = b.Fork(ctx, 1, bandsox.ForkOptions{})
	is(t, "a fork of a stopped one", err, bandsox.ErrConflict)
}
