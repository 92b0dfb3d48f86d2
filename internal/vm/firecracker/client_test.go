package firecracker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// serveStandIn runs one in a directory of its own, which is the working
// directory until the test's end, and gives a machine that speaks to it.
func serveStandIn(t *testing.T, name string) (*standIn, *machine) {
	t.Helper()
	v, err := parseVersion(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	l, err := net.Listen("unix", apiSocket)
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{version: v, name: name, state: "Not started", drives: map[string]bool{}}
	srv := &http.Server{Handler: s}
	s.exit = func(int) { _ = srv.Close() }
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })

	m := newMachine(vm.Handle{ID: "stand-in", PID: os.Getpid()})
	m.proc, err = monitor.StartProcess([]string{"/bin/sleep", "1000"}, ".", []*os.File{os.Stdin, os.Stderr, os.Stderr}, nil)
	if err != nil {
		t.Skipf("needs /bin/sleep: %v", err)
	}
	t.Cleanup(func() { _ = m.proc.Kill() })
	m.handle.PID = m.proc.PID
	if m.socks, err = monitor.OpenDir("."); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.socks.Close)
	m.connect()
	return s, m
}

func touch(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

var versions = []string{"1.13.0", "1.14.4", "1.15.1", "1.16.0", "1.16.1", "1.17.0-dev", "1.17.0"}

// TestClient says to every version what a boot and a life say, and nothing that
// it refuses.
func TestClient(t *testing.T) {
	for _, name := range versions {
		t.Run(name, func(t *testing.T) {
			s, m := serveStandIn(t, name)
			s.guest.listens = true
			touch(t, kernelFile, initrdFile, driveName(0), driveName(1))
			ctx := t.Context()
			info, err := m.api.start(ctx)
			if err != nil || info.VMMVersion != name {
				t.Fatalf("%+v, %v", info, err)
			}
			spec := vm.Spec{ID: "a", VCPU: 1, MemMiB: 128, Kernel: "k", Initrd: "i", Drives: []vm.Drive{{ReadOnly: true}, {}}}
			if err := m.configure(ctx, spec); err != nil {
				t.Fatal(err)
			}
			if err := m.configure(ctx, spec); wire.CodeOf(m.failure(ctx, "booting", err)) != wire.Internal {
				t.Errorf("configuring one that runs: %v", err)
			}
			for range 2 {
				if err := m.Pause(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if stopped := monitor.Stopped(m.proc.PID); stopped != deafAfterResume.in(s.version) {
				t.Errorf("paused, its process is stopped: %v", stopped)
			}
			for range 2 {
				if err := m.Resume(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if s.state != stateRunning || monitor.Stopped(m.proc.PID) {
				t.Errorf("resumed, it is %s", s.state)
			}
			if err := m.ResizeDrive(ctx, 1, 1<<20); err != nil {
				t.Error(err)
			}
			if err := m.ResizeDrive(ctx, 7, 1<<20); wire.CodeOf(err) != wire.Conflict {
				t.Errorf("resizing a drive that isn't there: %v", err)
			}
			conn, err := m.Dial(ctx) // still heard, on the versions with the flaw too
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if b := make([]byte, 5); !readsFully(conn, b) || string(b) != "hello" {
				t.Errorf("the guest's first bytes are %q", b)
			}
		})
	}
}

func readsFully(r io.Reader, b []byte) bool { _, err := io.ReadFull(r, b); return err == nil }

// TestFields: what a version doesn't have isn't sent to it; what is sent wrong it
// refuses, and that is our error.
func TestFields(t *testing.T) {
	s, m := serveStandIn(t, "1.15.1")
	ctx := t.Context()
	if _, err := m.api.start(ctx); err != nil {
		t.Fatal(err)
	}
	before := len(s.requests)
	err := m.api.do(ctx, http.MethodPut, "/snapshot/load", map[string]any{"snapshot_path": "x", "vsock_override": map[string]string{}}, nil)
	if wire.CodeOf(err) != wire.Unavailable || len(s.requests) != before {
		t.Errorf("a later version's field: %v, %q", err, s.requests[before:])
	}
	for name, c := range map[string]struct {
		method, path string
		body         any
	}{
		"unknown field": {"PUT", "/machine-config", map[string]any{"vcpu_count": 1, "mem_size_mib": 1, "x": 1}},
		"missing field": {"PUT", "/machine-config", map[string]any{"vcpu_count": 1}},
		"other id":      {"PUT", "/drives/a", driveConfig{DriveID: "b", PathOnHost: "c"}},
		"no such path":  {"PUT", "/nothing", map[string]any{}},
		"too early":     {"PATCH", "/vm", vmState{askPause}},
		"no file":       {"PUT", "/drives/a", driveConfig{DriveID: "a", PathOnHost: "missing"}},
	} {
		var said *fault
		if err := m.api.do(ctx, c.method, c.path, c.body, nil); !errors.As(err, &said) || said.message == "" {
			t.Errorf("%s: %v", name, err)
		} else if code, _ := classify(ctx, err, wire.Invalid); (name == "no file") != (code == wire.NotFound) {
			t.Errorf("%s: %v is %s", name, err, code)
		}
	}
	if err := m.api.do(ctx, http.MethodPut, "/snapshot/load", map[string]any{"snapshot_path": "missing"}, nil); err == nil {
		t.Error("a snapshot that isn't there was loaded")
	}
	time.Sleep(100 * time.Millisecond)
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := m.api.info(ctx); err == nil {
		t.Error("it lives on after a failed load")
	}
}

// TestVsock: nobody listens yet, a connection is never answered, and then one is.
func TestVsock(t *testing.T) {
	s, m := serveStandIn(t, "1.15.1")
	l, err := net.Listen("unix", vsockSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go s.serveVsock(l)
	s.guest.silent = 1
	time.AfterFunc(600*time.Millisecond, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.guest.listens = true
	})
	conn, err := m.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, ok := conn.(interface{ CloseWrite() error }); ok {
		t.Error("it can be half closed")
	}
	if _, err := conn.Write([]byte(" world")); err != nil {
		t.Fatal(err)
	}
	if b := make([]byte, 11); !readsFully(conn, b) || string(b) != "hello world" {
		t.Errorf("got %q", b)
	}
	if s.guest.asked < 3 {
		t.Errorf("asked %d times", s.guest.asked)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.mu.Lock()
	s.guest.listens = false
	s.mu.Unlock()
	if _, err := m.Dial(ctx); wire.CodeOf(err) != wire.Timeout {
		t.Errorf("dialling nobody: %v", err)
	}
}

// TestVersions: what is said of versions, and of each trap's bounds.
func TestVersions(t *testing.T) {
	for words, want := range map[string]version{"1.16.1": {1, 16, 1}, "v1.17.0-dev": {1, 17, 0}, "2.0.10+x": {2, 0, 10}} {
		if v, err := parseVersion(words); err != nil || v != want {
			t.Errorf("%s is %v, %v", words, v, err)
		}
	}
	for _, words := range []string{"", "1.16", "1.16.x", "1.2.3.4"} {
		if v, err := parseVersion(words); err == nil {
			t.Errorf("%q is %v", words, v)
		}
	}
	for name, want := range map[string]string{
		"1.13.0": "silent", "1.15.1": "silent", "1.16.0": "deaf-resume deaf-restore", "1.16.1": "deaf-resume", "1.17.0-dev": "", "1.18.2": "",
	} {
		v, err := parseVersion(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for word, trap := range map[string]trap{"silent": silentOnce, "deaf-resume": deafAfterResume, "deaf-restore": deafAfterRestore} {
			if trap.in(v) {
				got = append(got, word)
			}
		}
		if len(got) != len(strings.Fields(want)) {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
}

// TestDescription holds the stand-in against the description that Firecracker
// publishes with each version, src/firecracker/swagger/firecracker.yaml in its
// repository: BANDSOX_FIRECRACKER_API names the file.
func TestDescription(t *testing.T) {
	path := os.Getenv("BANDSOX_FIRECRACKER_API")
	if path == "" {
		t.Skip("needs Firecracker's own description: BANDSOX_FIRECRACKER_API")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := parseDescription(string(text))
	v, err := parseVersion(d.version)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the description of %s: %d paths, %d definitions", d.version, len(d.paths), len(d.fields))
	for request, r := range routes {
		method, path, _ := strings.Cut(request, " ")
		if first, later := fields[path]; later && v.before(first) {
			continue
		}
		if r.id != "" {
			path += "/{" + r.id + "}"
		}
		definition, ok := d.paths[strings.ToLower(method)+" "+path]
		if !ok {
			t.Errorf("%s isn't in the description", request)
			continue
		}
		known := d.fields[definition]
		for _, name := range append(r.must, r.may...) {
			first, later := fields[strings.Split(path, "/{")[0]+" "+name]
			if later && v.before(first) {
				if known[name] {
					t.Errorf("%s has %s before %s", request, name, first)
				}
				continue
			}
			if !known[name] {
				t.Errorf("%s: %s has no %s", request, definition, name)
			}
		}
	}
}

// description is what of a swagger file is of use here.
type description struct {
	version string
	paths   map[string]string          // "put /drives/{drive_id}" to the body's definition
	fields  map[string]map[string]bool // of a definition
}

// parseDescription reads the YAML by its indentation, which is regular.
func parseDescription(text string) description {
	d := description{paths: map[string]string{}, fields: map[string]map[string]bool{}}
	var section, path, method, def string
	inProperties := false
	for line := range strings.Lines(text) {
		word := strings.TrimSpace(line)
		if word == "" || strings.HasPrefix(word, "#") {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		key := strings.TrimSuffix(word, ":")
		switch {
		case indent == 0:
			section = strings.SplitN(word, ":", 2)[0]
		case section == "info" && strings.HasPrefix(word, "version:"):
			d.version = strings.TrimSpace(strings.TrimPrefix(word, "version:"))
		case section == "paths" && indent == 2:
			path = key
		case section == "paths" && indent == 4:
			method = key
			d.paths[method+" "+path] = ""
		case section == "paths" && strings.HasPrefix(word, "$ref:") && d.paths[method+" "+path] == "":
			d.paths[method+" "+path] = strings.Trim(filepath.Base(word), `"'`)
		case section == "definitions" && indent == 2:
			def, inProperties = key, false
			d.fields[def] = map[string]bool{}
		case section == "definitions" && indent == 4:
			inProperties = key == "properties"
		case section == "definitions" && indent == 6 && inProperties && strings.HasSuffix(word, ":"):
			d.fields[def][key] = true
		}
	}
	return d
}
