package server_test

import (
	"fmt"
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
)

// TestForksOverHTTP forks a sandbox: its children have its disk, and names of
// their own.
func TestForksOverHTTP(t *testing.T) {
	h := newHouse(t)
	h.create(bandsox.CreateOptions{Name: "ann", Metadata: map[string]any{"a": 1}})
	if r := h.do("POST", "/api/vms/ann/write-file", js{"path": "/kept", "content": "kept"}); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for _, body := range []any{js{"count": 2, "name": "kid", "metadata": js{"b": 2}}, js{}} {
		var forked struct{ VMs []struct{ ID, Status string } }
		r := h.do("POST", "/api/vms/ann/fork", body)
		r.json(t, &forked)
		want := 1
		if body.(js)["count"] != nil {
			want = 2
		}
		if r.status != 200 || len(forked.VMs) != want {
			t.Fatalf("%d %s", r.status, r.body)
		}
		for _, vm := range forked.VMs {
			if got := h.do("GET", "/api/vms/"+vm.ID+"/read-file?path=/kept", nil); got.field("content") != "kept" || vm.Status != "forked" {
				t.Errorf("%s: %s", vm.ID, got.body)
			}
		}
	}
	if r := h.do("GET", "/api/vms/kid-2", nil); fmt.Sprint(r.field("metadata")) != "map[a:1 b:2]" {
		t.Errorf("a child's metadata: %s", r.body)
	}
	for _, bad := range []js{{"count": 0}, {"count": 1000}, {"counts": 1}, {"name": "../x"}} {
		if r := h.do("POST", "/api/vms/ann/fork", bad); r.status != 422 && r.status != 400 {
			t.Errorf("%v: %d %s", bad, r.status, r.body)
		}
	}
	var shown, all []js
	h.do("GET", "/api/snapshots", nil).json(t, &shown)
	h.do("GET", "/api/snapshots?all=true", nil).json(t, &all)
	if shown == nil || len(shown) != 0 {
		t.Errorf("listed: %v", shown)
	}
	for _, s := range all {
		if s["purpose"] != "fork" {
			t.Errorf("listed with all: %v", s)
		}
	}
}

// TestSnapshotKeys holds keys for one sandbox to it, and all to their quota.
func TestSnapshotKeys(t *testing.T) {
	h := newHouse(t)
	ann := h.create(bandsox.CreateOptions{Name: "ann"})
	h.create(bandsox.CreateOptions{Name: "bob"})
	if _, err := h.keys.Init(t.Context(), password); err != nil {
		t.Fatal(err)
	}
	admin, err := h.keys.CreateKey(t.Context(), auth.KeyOptions{Name: "all", Scopes: []auth.Scope{auth.ScopeAdmin}})
	if err != nil {
		t.Fatal(err)
	}
	one, err := h.keys.CreateKey(t.Context(), auth.KeyOptions{Name: "one", Scopes: []auth.Scope{auth.OnSandbox(ann.ID())}})
	if err != nil {
		t.Fatal(err)
	}
	few, err := h.keys.CreateKey(t.Context(), auth.KeyOptions{Name: "few", Scopes: []auth.Scope{auth.ScopeUse}, Limits: auth.Limits{MaxSandboxes: 2}})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		key, method, path string
		body              any
		status            int
	}{
		{admin.Key, "POST", "/api/vms/bob/snapshot", js{"name": "of-bob"}, 200},
		{one.Key, "POST", "/api/vms/ann/snapshot", js{"name": "of-ann"}, 200},
		{one.Key, "POST", "/api/vms/bob/snapshot", js{"name": "mine"}, 403},
		{one.Key, "GET", "/api/snapshots/of-ann", nil, 200},
		{one.Key, "GET", "/api/snapshots/of-bob", nil, 404},
		{one.Key, "POST", "/api/snapshots/of-ann/restore", js{}, 403},
		{one.Key, "DELETE", "/api/snapshots/of-ann", nil, 403},
		{one.Key, "PUT", "/api/snapshots/of-ann/name", js{"name": "x"}, 403},
		{one.Key, "POST", "/api/vms/ann/fork", js{}, 403},
		{few.Key, "POST", "/api/vms/ann/fork", js{"count": 3}, 429},
		{few.Key, "POST", "/api/vms/ann/fork", js{"count": 1}, 200},
		{few.Key, "POST", "/api/snapshots/of-ann/restore", js{}, 200},
		{few.Key, "POST", "/api/snapshots/of-ann/restore", js{}, 429},
		{few.Key, "POST", "/api/vms/ann/fork", js{}, 429},
	} {
		h.key = step.key
		if r := h.do(step.method, step.path, step.body); r.status != step.status {
			t.Errorf("%s %s: %d %s, want %d", step.method, step.path, r.status, r.body, step.status)
		}
	}
	h.key = one.Key
	var list []js
	h.do("GET", "/api/snapshots", nil).json(t, &list)
	if len(list) != 1 || list[0]["name"] != "of-ann" {
		t.Errorf("a key for one sandbox lists %v", list)
	}
}
