package bandsox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/store"
)

// TestSnapshotRecords: names, metadata, and what must not be possible with them.
func TestSnapshotRecords(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	ctx := t.Context()
	sb := create(t, m, CreateOptions{Name: "box"})
	one, err := sb.Snapshot(ctx, SnapshotOptions{Metadata: map[string]any{"a": 1.0, "b": 2.0}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := sb.Snapshot(ctx, SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := m.Snapshots(ctx, SnapshotListOptions{}); err != nil || len(list) != 2 || list[0].Name != "box-2" || list[1].Name != "box-1" ||
		list[0].Parent != one.ID() || list[1].Source != sb.ID() {
		t.Errorf("%+v %v", list, err)
	}
	name, taken, bad, none := "named", "box-2", "../box", ""
	for _, u := range []SnapshotUpdate{{Name: &taken}, {Name: &bad}, {Name: &none}, {Metadata: map[string]any{"x": strings.Repeat("x", maxMetadataBytes)}}} {
		if err := one.Update(ctx, u); !errors.Is(err, ErrConflict) && !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", u, err)
		}
	}
	if err := one.Update(ctx, SnapshotUpdate{Name: &name, Metadata: map[string]any{"a": nil, "c": 3.0}}); err != nil {
		t.Fatal(err)
	}
	found, err := m.SnapshotOf(ctx, "named")
	if err != nil || found.ID() != one.ID() {
		t.Fatalf("%v %v", found, err)
	}
	if info, err := found.Info(ctx); err != nil || info.Metadata["a"] != nil || info.Metadata["b"] != 2.0 || info.Metadata["c"] != 3.0 {
		t.Errorf("%+v %v", info, err)
	}
	for _, ref := range []string{"", ".", "..", "../sandboxes", "box-1", "/etc", strings.Repeat("x", 20), "sandboxes/" + sb.ID()} {
		if s, err := m.SnapshotOf(ctx, ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v %v", ref, s, err)
		}
	}
	// A damaged record costs that snapshot and no other.
	if err := os.WriteFile(filepath.Join(m.store.Snapshot(two.ID()), store.SnapshotRecord), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := m.Snapshots(ctx, SnapshotListOptions{}); err != nil || len(list) != 1 {
		t.Errorf("%+v %v", list, err)
	}
	child, err := one.Restore(ctx, RestoreOptions{Name: "child"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Restore(ctx, RestoreOptions{Name: "child"}); !errors.Is(err, ErrConflict) {
		t.Errorf("a name twice: %v", err)
	}
	if err := one.Delete(ctx); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), child.ID()) {
		t.Errorf("it is in use: %v", err)
	}
	info, _ := child.Info(ctx)
	if err := m.RemoveImage(ctx, info.Digest); !errors.Is(err, ErrConflict) {
		t.Errorf("its image is in use: %v", err)
	}
	if err := child.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if err := one.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Restore(ctx, RestoreOptions{}); err == nil {
		t.Error("restored from what is deleted")
	}
	if _, err := sb.Fork(ctx, 0, ForkOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("forked to none: %v", err)
	}
	// One name for three children is three names; if one can't be had there are none.
	create(t, m, CreateOptions{Name: "kid-3"})
	if _, err := sb.Fork(ctx, 3, ForkOptions{Name: "kid"}); !errors.Is(err, ErrConflict) {
		t.Errorf("a name is taken: %v", err)
	}
	for _, name := range []string{"kid-1", "kid-2"} {
		if _, err := m.Get(ctx, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s stays: %v", name, err)
		}
	}
	if list, err := m.Snapshots(ctx, SnapshotListOptions{All: true}); err != nil || len(list) != 0 {
		t.Errorf("left: %+v %v", list, err)
	}
}
