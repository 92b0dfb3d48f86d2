package server_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

const password = "correct horse"

// locked is a house with keys, of which it has the first.
func locked(t *testing.T) *house {
	h := newHouse(t)
	made, err := h.keys.Init(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	h.key = made.Key
	return h
}

// as returns the house as another key's holder sees it.
func (h *house) as(o auth.KeyOptions) *house {
	h.t.Helper()
	made, err := h.keys.CreateKey(context.Background(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	other := *h
	other.key = made.Key
	return &other
}

func TestLoginAndLogout(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if r := h.do("POST", "/api/auth/login", map[string]any{"password": "x"}); r.status != 404 {
		t.Errorf("login while auth is off: %d %s", r.status, r.body)
	}
	if r := h.do("GET", "/api/auth/check", nil); r.field("authenticated") != true {
		t.Errorf("check while auth is off: %s", r.body)
	}
	if r := h.do("GET", "/api/auth/keys", nil); r.status != 404 {
		t.Errorf("keys while auth is off: %d %s", r.status, r.body)
	}
	if _, err := h.keys.Init(t.Context(), password); err != nil {
		t.Fatal(err)
	}
	if r := h.do("GET", "/api/auth/check", nil); r.status != 200 || r.field("authenticated") != false {
		t.Errorf("check by a stranger: %d %s", r.status, r.body)
	}
	if r := h.do("POST", "/api/auth/login", map[string]any{"password": "wrong"}); r.status != 401 || r.field("detail") != "Invalid password" {
		t.Errorf("wrong password: %d %s", r.status, r.body)
	}
	if r := h.do("POST", "/api/auth/login", map[string]any{}); r.status != 422 {
		t.Errorf("no password: %d %s", r.status, r.body)
	}
	in := h.do("POST", "/api/auth/login", map[string]any{"password": password, "unheard": "of"})
	token, _ := in.field("token").(string)
	if in.status != 200 || in.field("status") != "ok" || token == "" {
		t.Fatalf("login: %d %s", in.status, in.body)
	}
	want := "bandsox_session=" + token + "; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
	if got := in.header.Get("Set-Cookie"); got != want {
		t.Errorf("cookie %q, want %q", got, want)
	}
	cookie := []string{"Cookie", "bandsox_session=" + token}
	if r := h.do("GET", "/api/auth/whoami", nil, cookie...); r.status != 200 || r.field("kind") != "session" {
		t.Errorf("whoami: %d %s", r.status, r.body)
	}
	if r := h.do("POST", "/api/auth/ticket", nil, cookie...); r.status != 200 || r.field("ticket") == nil {
		t.Errorf("ticket: %d %s", r.status, r.body)
	}
	if r := h.do("POST", "/api/auth/logout", nil, cookie...); r.status != 200 || r.field("status") != "ok" ||
		!strings.Contains(r.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("logout: %d %s %v", r.status, r.body, r.header)
	}
	if r := h.do("GET", "/api/auth/keys", nil, cookie...); r.status != 401 || r.field("detail") != "Unauthorized" {
		t.Errorf("after logout: %d %s", r.status, r.body)
	}
}

func TestLoginIsLimited(t *testing.T) {
	t.Parallel()
	h := locked(t)
	h.key = ""
	var last reply
	for range 11 {
		last = h.do("POST", "/api/auth/login", map[string]any{"password": "wrong"})
	}
	if last.status != 429 || last.header.Get("Retry-After") == "" || last.field("code") != "exhausted" {
		t.Errorf("eleventh attempt: %d %v %s", last.status, last.header, last.body)
	}
}

func TestKeysOverHTTP(t *testing.T) {
	t.Parallel()
	h := locked(t)
	sb := h.create(bandsox.CreateOptions{Name: "mine"})
	made := h.do("POST", "/api/auth/keys", map[string]any{"name": "ci", "scopes": []string{"read", "sandbox:mine"},
		"expires_at": time.Now().Add(time.Hour), "max_sandboxes": 3})
	id, _ := made.field("key_id").(string)
	if made.status != 200 || made.field("name") != "ci" || !strings.HasPrefix(id, "bsx_k_") || made.field("key") == nil {
		t.Fatalf("create: %d %s", made.status, made.body)
	}
	var keys []auth.Key
	h.do("GET", "/api/auth/keys", nil).json(t, &keys)
	if len(keys) != 2 || keys[1].ID != id || keys[1].MaxSandboxes != 3 || keys[1].ExpiresAt == nil || keys[1].Scopes[1] != auth.OnSandbox(sb.ID()) {
		t.Errorf("keys: %+v", keys)
	}
	for _, bad := range []map[string]any{
		{}, {"name": ""}, {"name": "x", "scopes": []string{"god"}}, {"name": "x", "scopes": []string{"sandbox:nobody"}},
		{"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, {"name": "x", "max_vcpu": -1},
	} {
		if r := h.do("POST", "/api/auth/keys", bad); r.field("code") != "invalid" {
			t.Errorf("%v: %d %s", bad, r.status, r.body)
		}
	}
	ci := *h
	ci.key = made.field("key").(string)
	if r := ci.do("POST", "/api/auth/keys", map[string]any{"name": "more"}); r.status != 403 {
		t.Errorf("a key without admin made a key: %d %s", r.status, r.body)
	}
	if r := ci.do("POST", "/api/vms/mine/pause", nil); r.status != 200 {
		t.Errorf("pause of its own: %d %s", r.status, r.body)
	}
	if r := h.do("DELETE", "/api/auth/keys/"+id, nil); r.status != 200 || r.field("status") != "revoked" {
		t.Errorf("revoke: %d %s", r.status, r.body)
	}
	if r := h.do("DELETE", "/api/auth/keys/"+id, nil); r.status != 404 || r.field("detail") != "Key not found" {
		t.Errorf("revoke again: %d %s", r.status, r.body)
	}
	if r := ci.do("GET", "/api/vms", nil); r.status != 401 {
		t.Errorf("a revoked key: %d %s", r.status, r.body)
	}
}

// TestQuota: of many creates at once as many succeed as there is room for.
func TestQuota(t *testing.T) {
	t.Parallel()
	h := locked(t)
	image := vmtest.Image(t)
	little := h.as(auth.KeyOptions{Name: "little", Limits: auth.Limits{MaxSandboxes: 2}})
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			r := little.do("POST", "/api/vms", map[string]any{"image": image})
			mu.Lock()
			defer mu.Unlock()
			statuses[r.status]++
		})
	}
	wg.Wait()
	if statuses[200] != 2 || statuses[429] != 4 {
		t.Fatalf("statuses: %v", statuses)
	}
	who := little.do("GET", "/api/auth/whoami", nil)
	if used, _ := who.field("usage").(map[string]any); used["sandboxes"] != 2.0 || used["vcpu"] != 2.0 || used["mem_mib"] != 256.0 {
		t.Errorf("whoami: %s", who.body)
	}
	var list []bandsox.Info
	little.do("GET", "/api/vms", nil).json(t, &list)
	for _, info := range list {
		if info.Owner != who.field("id") {
			t.Errorf("owner %q, want %v", info.Owner, who.field("id"))
		}
	}
	// Another's don't count, and neither does what has been deleted or failed.
	if r := h.do("POST", "/api/vms", map[string]any{"image": image}); r.status != 200 {
		t.Errorf("another key: %d %s", r.status, r.body)
	}
	if r := little.do("DELETE", "/api/vms/"+list[0].ID, nil); r.status != 200 {
		t.Fatalf("delete: %d %s", r.status, r.body)
	}
	if r := little.do("POST", "/api/vms", map[string]any{"image": "dir:/nonexistent"}); r.status == 200 || r.status == 429 {
		t.Errorf("a bad image: %d %s", r.status, r.body)
	}
	if r := little.do("POST", "/api/vms", map[string]any{"image": image}); r.status != 200 {
		t.Errorf("after the delete: %d %s", r.status, r.body)
	}
	for limit, want := range map[auth.Limits]string{{MaxMemMiB: 100}: "MiB of memory", {MaxVCPU: 1, MaxSandboxes: 5}: "virtual processors"} {
		r := h.as(auth.KeyOptions{Name: "small", Limits: limit}).do("POST", "/api/vms", map[string]any{"image": image, "vcpu": 2})
		if detail, _ := r.field("detail").(string); r.status != 429 || !strings.Contains(detail, want) {
			t.Errorf("%+v: %d %s", limit, r.status, r.body)
		}
	}
}

// TestHostImages: who may not do everything reads no files of the host.
func TestHostImages(t *testing.T) {
	t.Parallel()
	image := vmtest.Image(t)
	create := func(h *house) reply { return h.do("POST", "/api/vms", map[string]any{"image": image}) }
	if r := create(newHouseWith(t, auth.Options{})); r.status != 403 || r.field("code") != "denied" {
		t.Errorf("by a stranger: %d %s", r.status, r.body)
	}
	local := newHouseWith(t, auth.Options{Local: func(*http.Request) bool { return true }})
	if r := create(local); r.status != 200 {
		t.Errorf("through the socket: %d %s", r.status, r.body)
	}
	h := locked(t)
	if r := create(h); r.status != 200 {
		t.Errorf("by an admin's key: %d %s", r.status, r.body)
	}
	user := h.as(auth.KeyOptions{Name: "user", Scopes: []auth.Scope{auth.ScopeUse}})
	for _, ref := range []string{image, "oci:/etc", "docker-archive:/x", "oci-archive:/x"} {
		if r := user.do("POST", "/api/vms", map[string]any{"image": ref}); r.status != 403 {
			t.Errorf("%s by a user's key: %d %s", ref, r.status, r.body)
		}
	}
}
