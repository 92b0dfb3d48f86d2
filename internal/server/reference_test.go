package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"mime/multipart"
	"slices"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// form is a multipart body.
type form struct {
	fields map[string]string
	files  map[string]string
}

func (f form) encode(t *testing.T) (body []byte, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, k := range slices.Sorted(maps.Keys(f.fields)) {
		if err := w.WriteField(k, f.fields[k]); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(f.files)) {
		p, err := w.CreateFormFile(k, "upload.bin")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write([]byte(f.files[k])); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes(), w.FormDataContentType()
}

type js = map[string]any

// TestReference is section 1 of the reference's list, row by row: what a client
// that was written for it sends, and what it looks for in the answer. ID stands
// for a running sandbox, STOPPED for a stopped one. want's values are compared;
// "*" takes any value that is there.
func TestReference(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	image := vmtest.Image(t)
	made := h.do("POST", "/api/vms", js{"image": image, "name": "ann", "metadata": js{"k": "v"}})
	id, _ := made.field("id").(string)
	if made.status != 200 {
		t.Fatalf("create: %d %s", made.status, made.body)
	}
	stopped, _ := h.do("POST", "/api/vms", js{"image": image}).field("id").(string)
	text := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	if r := h.do("POST", "/api/vms/"+stopped+"/write-file", js{"path": "/kept", "content": "kept"}); r.status != 200 {
		t.Fatalf("write: %d %s", r.status, r.body)
	}
	if r := h.do("POST", "/api/vms/"+stopped+"/stop", nil); r.status != 200 {
		t.Fatalf("stop: %d %s", r.status, r.body)
	}
	none := strings.Repeat("0", 8) + "-none"

	for _, row := range []struct {
		method, path string
		body         any
		status       int
		want         js
	}{
		// Errors
		{"GET", "/api/nothing", nil, 404, js{"detail": "Not Found"}},
		{"PUT", "/api/vms", nil, 405, js{"detail": "Method Not Allowed"}},
		{"POST", "/api/vms", js{}, 422, js{"detail": "*"}},
		{"POST", "/api/vms", js{"image": 3}, 422, js{"detail": "*"}},

		// 1.1 Auth, while it is off
		{"POST", "/api/auth/login", js{"password": "x"}, 404, js{"detail": "*"}},
		{"POST", "/api/auth/logout", nil, 200, js{"status": "ok"}},
		{"GET", "/api/auth/check", nil, 200, js{"authenticated": true}},

		// 1.2 VMs
		{"POST", "/api/vms", js{"image": image, "name": nil, "vcpu": 1, "mem_mib": 128, "enable_networking": true, "force_rebuild": false,
			"disk_size_mib": 4096, "env_vars": nil, "metadata": nil, "unknown": 1}, 200, js{"id": "*", "status": "created"}},
		{"GET", "/api/vms/ID", nil, 200, js{"id": id, "name": "ann", "image": image, "vcpu": 1.0, "mem_mib": 128.0, "disk_size_mib": 4096.0,
			"created_at": "*", "status": "running", "pid": "*", "metadata": js{"k": "v"}, "agent_ready": true}},
		{"GET", "/api/vms/" + none, nil, 404, js{"detail": "VM not found"}},
		{"POST", "/api/vms/ID/pause", nil, 200, js{"status": "paused"}},
		{"POST", "/api/vms/ID/pause", nil, 200, js{"status": "paused"}},
		{"POST", "/api/vms/ID/resume", nil, 200, js{"status": "resumed"}},
		{"POST", "/api/vms/ID/resume", nil, 200, js{"status": "resumed"}},
		{"POST", "/api/vms/STOPPED/pause", nil, 409, js{"detail": "*"}},
		{"POST", "/api/vms/" + none + "/pause", nil, 404, js{"detail": "VM not found"}},
		{"POST", "/api/vms/STOPPED/stop", nil, 404, js{"detail": "*"}},
		{"PUT", "/api/vms/ID/metadata", js{"metadata": js{"a": 1.0}}, 200, js{"metadata": js{"a": 1.0}}},
		{"PUT", "/api/vms/" + none + "/metadata", js{"metadata": js{}}, 404, js{"detail": "VM not found"}},
		{"PUT", "/api/vms/ID/name", js{"name": "bob"}, 200, js{"status": "renamed", "name": "bob"}},
		{"PUT", "/api/vms/ID/name", js{}, 422, js{"detail": "*"}},

		{"POST", "/api/vms/ID/exec", js{"command": "echo out; echo err >&2; exit 3"}, 200, js{"exit_code": 3.0, "stdout": "out\n", "stderr": "err\n"}},
		{"POST", "/api/vms/ID/exec", js{"command": "echo $HOME", "timeout": 30, "unknown": true}, 200, js{"exit_code": 0.0}},
		{"POST", "/api/vms/ID/exec", js{"command": "sleep 60", "timeout": 1}, 504, js{"detail": "Command timed out"}},
		{"POST", "/api/vms/STOPPED/exec", js{"command": "true"}, 404, js{"detail": "*"}},
		{"POST", "/api/vms/" + none + "/exec", js{"command": "true"}, 404, js{"detail": "*"}},
		{"POST", "/api/vms/ID/exec-python", js{"code": "print(6*7)"}, 200, js{"exit_code": "*", "stdout": "*", "stderr": "*", "output": "*", "success": "*", "error": "*"}},
		{"POST", "/api/vms/STOPPED/exec-python", js{"code": "1"}, 404, js{"detail": "*"}},
		{"POST", "/api/vms/ID/http", js{"port": 1, "path": "/"}, 503, js{"detail": "*"}},
		{"POST", "/api/vms/STOPPED/http", js{"port": 80}, 404, js{"detail": "*"}},

		{"POST", "/api/vms/ID/write-file", js{"path": "/d/f", "content": "one\n"}, 200, js{"status": "written", "path": "/d/f"}},
		{"POST", "/api/vms/ID/append-file", js{"path": "/d/f", "content": "two\n"}, 200, js{"status": "appended", "path": "/d/f"}},
		{"POST", "/api/vms/ID/write-file", js{"path": "/d/f", "content": text("three\n"), "encoding": "base64", "append": true}, 200, js{"status": "appended", "path": "/d/f"}},
		{"POST", "/api/vms/ID/write-file", js{"path": "/d/g", "content": "!", "encoding": "base64"}, 400, js{"detail": "*"}},
		{"GET", "/api/vms/ID/read-file?path=/d/f", nil, 200, js{"path": "/d/f", "content": "one\ntwo\nthree\n"}},
		{"GET", "/api/vms/ID/read-file?path=/none", nil, 404, js{"detail": "*"}},
		{"GET", "/api/vms/ID/read-file", nil, 422, js{"detail": "*"}},
		{"GET", "/api/vms/STOPPED/read-file?path=/kept", nil, 200, js{"path": "/kept", "content": "kept"}},
		{"GET", "/api/vms/ID/file-info?path=/d/f", nil, 200, js{"path": "/d/f", "info": "*"}},
		{"GET", "/api/vms/ID/files?path=/d", nil, 200, js{"path": "/d", "files": "*"}},
		{"GET", "/api/vms/ID/files", nil, 200, js{"path": "/", "files": "*"}},
		{"POST", "/api/vms/ID/upload", form{map[string]string{"remote_path": "/d/up"}, map[string]string{"file": "bytes\x00\xff"}}, 200, js{"status": "uploaded", "path": "/d/up"}},

		// from-dockerfile has a test of its own

		// 1.3 Snapshots
		{"POST", "/api/vms/ID/snapshot", js{"name": "s1", "metadata": js{"m": 1.0}}, 200, js{"snapshot_id": "s1", "id": "*"}},
		{"POST", "/api/vms/ID/snapshot", js{"name": "s1"}, 409, js{"detail": "*"}},
		{"POST", "/api/vms/ID/snapshot", js{"name": "../s"}, 400, js{"detail": "*"}},
		{"POST", "/api/vms/STOPPED/snapshot", js{"name": "s2"}, 409, js{"detail": "*"}},
		{"POST", "/api/vms/" + none + "/snapshot", js{"name": "s2"}, 404, js{"detail": "VM not found"}},
		{"GET", "/api/snapshots/s1", nil, 200, js{"id": "*", "name": "s1", "snapshot_name": "s1", "source_vm_id": id, "vcpu": 1.0, "mem_mib": 128.0, "image": image,
			"rootfs_path": nil, "backend_rootfs_path": nil, "network_config": nil, "vsock_config": nil, "metadata": js{"m": 1.0}, "created_at": "*", "path": "*", "status": "ready"}},
		{"PUT", "/api/snapshots/s1/metadata", js{"metadata": js{"n": 2.0}}, 200, js{"metadata": js{"n": 2.0}, "snapshot_name": "s1"}},
		{"PUT", "/api/snapshots/s1/name", js{"name": "s3"}, 200, js{"status": "renamed", "name": "s3"}},
		{"PUT", "/api/snapshots/s1/name", js{"name": "s4"}, 404, js{"detail": "Snapshot not found"}},
		{"POST", "/api/snapshots/s3/restore", js{}, 200, js{"id": "*", "status": "restored"}},
		{"POST", "/api/snapshots/s3/restore", js{"name": nil, "enable_networking": true, "env_vars": js{"A": "b"}, "metadata": nil, "replay_config": nil}, 200, js{"status": "restored"}},
		{"POST", "/api/snapshots/s1/restore", js{}, 404, js{"detail": "Snapshot not found"}},
		{"DELETE", "/api/snapshots/%2e%2e", nil, 404, js{"detail": "Snapshot not found"}},
		{"DELETE", "/api/snapshots/s1", nil, 404, js{"detail": "Snapshot not found"}},
		{"DELETE", "/api/snapshots/s3", nil, 409, js{"detail": "*"}}, // those that were restored share its memory
		{"POST", "/api/vms/ID/snapshot", js{"name": "s5"}, 200, js{"snapshot_id": "s5"}},
		{"DELETE", "/api/snapshots/s5", nil, 200, js{"status": "deleted"}},
		{"DELETE", "/api/vms/ID", nil, 200, js{"status": "deleted"}},
		{"DELETE", "/api/vms/ID", nil, 200, js{"status": "deleted"}},
		{"DELETE", "/api/vms/" + none, nil, 200, js{"status": "deleted"}},
	} {
		path := strings.NewReplacer("STOPPED", stopped, "ID", id).Replace(row.path)
		var headers []string
		body := row.body
		if f, ok := body.(form); ok {
			var kind string
			body, kind = f.encode(t)
			headers = []string{"Content-Type", kind}
		}
		got := h.do(row.method, path, body, headers...)
		var have js
		_ = json.Unmarshal(got.body, &have)
		if got.status != row.status {
			t.Errorf("%s %s: %d %.300s, want %d", row.method, row.path, got.status, got.body, row.status)
			continue
		}
		for k, want := range row.want {
			v, there := have[k]
			a, _ := json.Marshal(v)
			b, _ := json.Marshal(want)
			if !there || want != any("*") && !bytes.Equal(a, b) {
				t.Errorf("%s %s: %s is %s, want %s", row.method, row.path, k, a, b)
			}
		}
	}
	if lists := h.do("GET", "/api/vms?limit=1&metadata_equals=%7B%7D", nil); lists.status != 200 || lists.body[0] != '[' {
		t.Errorf("the list: %d %s", lists.status, lists.body)
	}
	one := h.do("GET", "/api/vms?limit=5", nil)
	if other := h.do("GET", "/api/projects?limit=5", nil); !bytes.Equal(other.body, one.body) {
		t.Error("/api/projects is not /api/vms")
	}
	down := h.do("GET", "/api/vms/"+stopped+"/download?path=/kept", nil)
	if down.status != 200 || string(down.body) != "kept" || down.header.Get("Content-Type") != "application/octet-stream" ||
		!strings.HasPrefix(down.header.Get("Content-Disposition"), "attachment; filename=") {
		t.Errorf("download: %d %q %v", down.status, down.body, down.header)
	}
	for _, page := range []string{"/", "/login", "/vm_details?id=" + stopped, "/terminal?id=" + stopped, "/markdown_viewer?vm_id=" + stopped + "&path=/kept"} {
		if got := h.do("GET", page, nil); got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %v", page, got.status, got.header)
		}
	}
	for _, open := range []string{"/openapi.json", "/docs"} {
		if got := h.do("GET", open, nil); got.status != 200 {
			t.Errorf("%s: %d", open, got.status)
		}
	}
}
