package server_test

import (
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestLifeOverHTTP is a sandbox's life, request by request.
func TestLifeOverHTTP(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	made := h.do("POST", "/api/vms", map[string]any{"image": vmtest.Image(t), "name": "ann", "metadata": map[string]any{"a": 1}, "env_vars": nil, "unheard": "of"})
	if made.status != 200 || made.field("status") != "created" {
		t.Fatalf("create: %d %s", made.status, made.body)
	}
	id := made.field("id").(string)
	for _, step := range []struct {
		method, path string
		body         any
		status       int
		field        string
		want         any
	}{
		{"GET", "/api/vms/" + id, nil, 200, "status", "running"},
		{"GET", "/api/vms/ann", nil, 200, "id", id},
		{"GET", "/api/vms/nobody", nil, 404, "detail", "VM not found"},
		{"POST", "/api/vms/ann/pause", nil, 200, "status", "paused"},
		{"POST", "/api/vms/ann/pause", nil, 200, "status", "paused"},
		{"POST", "/api/vms/ann/resume", nil, 200, "status", "resumed"},
		{"PUT", "/api/vms/ann/name", map[string]any{"name": "bob"}, 200, "name", "bob"},
		{"PUT", "/api/vms/bob/metadata", map[string]any{"metadata": map[string]any{"b": 2}}, 200, "name", "bob"},
		{"PATCH", "/api/vms/bob", map[string]any{"labels": map[string]any{"team": "red"}, "ttl": 3600}, 200, "name", "bob"},
		{"PATCH", "/api/vms/bob", map[string]any{"lables": 1}, 422, "code", "invalid"},
		{"GET", "/api/vms/bob/stats", nil, 200, "name", "bob"},
		{"GET", "/api/vms/bob/wait?state=running", nil, 200, "status", "running"},
		{"GET", "/api/vms/bob/wait?state=stopped&timeout=0.01", nil, 504, "code", "timeout"},
		{"POST", "/api/vms/bob/stop", nil, 200, "status", "stopped"},
		{"POST", "/api/vms/bob/stop", nil, 404, "code", "conflict"},
		{"POST", "/api/vms/bob/start", nil, 200, "status", "started"},
		{"POST", "/api/vms/bob/kill", nil, 200, "status", "stopped"},
		{"POST", "/api/vms/bob/nothing", nil, 404, "detail", "Not Found"},
		{"PUT", "/api/vms/bob", nil, 405, "detail", "Method Not Allowed"},
		{"DELETE", "/api/vms/bob", nil, 200, "status", "deleted"},
		{"DELETE", "/api/vms/bob", nil, 200, "status", "deleted"},
	} {
		got := h.do(step.method, step.path, step.body)
		if got.status != step.status || got.field(step.field) != step.want {
			t.Errorf("%s %s: got %d %s, want %d and %s %v", step.method, step.path, got.status, got.body, step.status, step.field, step.want)
		}
	}
}

func TestListIsFilteredAndPaged(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	image := vmtest.Image(t)
	for _, name := range []string{"one", "two", "three"} {
		h.create(bandsox.CreateOptions{Image: image, Name: name, Labels: map[string]string{"n": name}, Metadata: map[string]any{"who": map[string]any{"name": name}}})
	}
	names := func(query string) (names []string, next string) {
		r := h.do("GET", "/api/vms"+query, nil)
		var list []bandsox.Info
		r.json(t, &list)
		for _, i := range list {
			names = append(names, i.Name)
		}
		return names, r.header.Get("Bandsox-Next")
	}
	if got, _ := names("?label=n%3Dtwo"); len(got) != 1 || got[0] != "two" {
		t.Errorf("by label: %v", got)
	}
	if got, _ := names("?metadata_equals=%7B%22who.name%22%3A%22one%22%7D"); len(got) != 1 || got[0] != "one" {
		t.Errorf("by metadata: %v", got)
	}
	page, next := names("?limit=2")
	rest, end := names("?limit=2&after=" + next)
	if len(page) != 2 || page[0] != "three" || len(rest) != 1 || rest[0] != "one" || end != "" {
		t.Errorf("pages: %v, %v, %q", page, rest, end)
	}
	for _, bad := range []string{"?limit=-1", "?limit=x", "?metadata_equals=%7B", "?label=n", "?after=x"} {
		if r := h.do("GET", "/api/vms"+bad, nil); r.status != 422 && r.status != 400 {
			t.Errorf("%s: %d %s", bad, r.status, r.body)
		}
	}
}
