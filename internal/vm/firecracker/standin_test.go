package firecracker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// standIn is an interface like Firecracker's, as strict as that: it takes no
// field that it doesn't know, no chunks, no other content type, nothing out of
// its time, and no id in a body that isn't the path's. It is our own, made from
// the published description; TestDescription holds it against that.
type standIn struct {
	version version
	name    string    // "1.17.0-dev"
	exit    func(int) // how it ends

	mu       sync.Mutex
	state    string
	requests []string // method, path, body
	words    string   // the kernel's
	drives   map[string]bool
	deaf     bool // deafAfterResume
	guest    guest
}

// guest is who listens behind the vsock.
type guest struct {
	listens bool // on agentPort, where it sends everything back
	silent  int  // connections that are never answered, before others are
	asked   int
}

// route is one request that there is.
type route struct {
	when   string // "before" the guest runs, "after" that, or "" for both
	must   []string
	may    []string
	id     string // the field that is the path's last part
	answer func(s *standIn, body map[string]any) error
}

var errOver = errors.New("it ends")

var routes = map[string]route{
	"PUT /machine-config": {when: "before", must: []string{"vcpu_count", "mem_size_mib"}, may: []string{"smt", "track_dirty_pages", "huge_pages", "cpu_template"}},
	"PUT /boot-source": {when: "before", must: []string{"kernel_image_path"}, may: []string{"boot_args", "initrd_path"},
		answer: func(s *standIn, body map[string]any) error {
			s.words, _ = body["boot_args"].(string)
			return readable(body["kernel_image_path"])
		}},
	"PUT /drives": {when: "before", id: "drive_id", must: []string{"drive_id", "is_root_device"},
		may: []string{"path_on_host", "is_read_only", "cache_type", "io_engine", "partuuid", "rate_limiter", "socket"},
		answer: func(s *standIn, body map[string]any) error {
			s.drives[body["drive_id"].(string)] = true
			return readable(body["path_on_host"])
		}},
	"PATCH /drives": {when: "after", id: "drive_id", must: []string{"drive_id"}, may: []string{"path_on_host", "rate_limiter"},
		answer: func(s *standIn, body map[string]any) error {
			if !s.drives[body["drive_id"].(string)] {
				return fmt.Errorf("Invalid device ID found: %v", body["drive_id"])
			}
			return readable(body["path_on_host"])
		}},
	"PUT /vsock": {when: "before", must: []string{"guest_cid", "uds_path"}, may: []string{"vsock_id"},
		answer: func(s *standIn, body map[string]any) error {
			l, err := net.Listen("unix", body["uds_path"].(string))
			if err != nil {
				return errors.New("Cannot create backend for vsock device: Address already in use (os error 98)")
			}
			go s.serveVsock(l)
			return nil
		}},
	"PUT /entropy": {when: "before", may: []string{"rate_limiter"}},
	"PUT /logger":  {when: "before", may: []string{"log_path", "level", "show_level", "show_log_origin", "module"}},
	"PUT /serial":  {when: "before", may: []string{"serial_out_path", "rate_limiter"}},
	"PUT /actions": {must: []string{"action_type"}, answer: (*standIn).act},
	"PATCH /vm":    {when: "after", must: []string{"state"}, answer: (*standIn).change},
	"PUT /snapshot/load": {when: "before", must: []string{"snapshot_path"},
		may: []string{"mem_backend", "mem_file_path", "enable_diff_snapshots", "track_dirty_pages", "resume_vm",
			"network_overrides", "vsock_override", "clock_realtime", "huge_pages"},
		answer: func(s *standIn, body map[string]any) error {
			if err := readable(body["snapshot_path"]); err != nil {
				return errors.Join(err, errOver) // as it does: a failed load is its end
			}
			s.state = "Paused"
			return nil
		}},
	"PUT /snapshot/create": {when: "after", must: []string{"snapshot_path", "mem_file_path"}, may: []string{"snapshot_type"}},
	"GET /":                {},
}

func readable(path any) error {
	f, err := os.Open(path.(string))
	if err != nil {
		return fmt.Errorf("The file cannot be opened: No such file or directory (os error 2) %v", path)
	}
	return f.Close()
}

func (s *standIn) act(body map[string]any) error {
	if body["action_type"] != "InstanceStart" {
		return fmt.Errorf("unknown variant %v", body["action_type"])
	}
	if s.state != "Not started" {
		return errors.New("The requested operation is not supported after starting the microVM.")
	}
	s.state = stateRunning
	for _, w := range strings.Fields(s.words) {
		if code, ok := strings.CutPrefix(w, "standin.exit="); ok {
			var n int
			fmt.Sscan(code, &n)
			time.AfterFunc(500*time.Millisecond, func() { s.exit(n) })
		}
	}
	fmt.Println("the stand-in's guest prints a line")
	return nil
}

// change pauses and resumes, and has some versions' flaw.
func (s *standIn) change(body map[string]any) error {
	switch body["state"] {
	case askPause:
		s.state = statePaused
	case askResume:
		s.state = stateRunning
		s.deaf = s.deaf || deafAfterResume.in(s.version)
	default:
		return fmt.Errorf("unknown variant %v", body["state"])
	}
	return nil
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.serve(w, r)
	if err == nil {
		return
	}
	message, _, _ := strings.Cut(err.Error(), "\n")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"fault_message": message})
	if errors.Is(err, errOver) {
		time.AfterFunc(50*time.Millisecond, func() { s.exit(1) })
	}
}

func (s *standIn) serve(w http.ResponseWriter, r *http.Request) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	s.requests = append(s.requests, r.Method+" "+r.URL.Path+" "+string(b))
	switch {
	case len(r.TransferEncoding) > 0, r.ContentLength < 0:
		return errors.New("chunked bodies are not supported")
	case len(b) > 51200:
		return errors.New("the body is too large")
	case r.Method == http.MethodGet && len(b) > 0:
		return errors.New("GET request cannot have a body.")
	case r.Method != http.MethodGet && r.Header.Get("Content-Type") != "application/json":
		return fmt.Errorf("Unsupported content type %q", r.Header.Get("Content-Type"))
	}
	path, id := r.URL.Path, ""
	if rest, ok := strings.CutPrefix(path, "/drives/"); ok {
		path, id = "/drives", rest
	}
	rt, ok := routes[r.Method+" "+path]
	if first, later := fields[path]; !ok || later && s.version.before(first) {
		return fmt.Errorf("Invalid request method and/or path: %s %s.", r.Method, r.URL.Path)
	}
	if r.Method == http.MethodGet {
		return json.NewEncoder(w).Encode(map[string]string{"id": "stand-in", "state": s.state, "vmm_version": s.name, "app_name": "Firecracker"})
	}
	body, err := s.parse(path, rt, b)
	if err != nil {
		return err
	}
	if rt.id != "" && body[rt.id] != id {
		return errors.New("The id from the path does not match the id from the body!")
	}
	if started := s.state != "Not started"; rt.when == "before" && started {
		return errors.New("The requested operation is not supported after starting the microVM.")
	} else if rt.when == "after" && !started {
		return errors.New("The requested operation is not supported before starting the microVM.")
	}
	if rt.answer != nil {
		if err := rt.answer(s, body); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// parse reads a body with none but the fields that this version has.
func (s *standIn) parse(path string, rt route, b []byte) (body map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&body); err != nil {
		return nil, fmt.Errorf("An error occurred when deserializing the json body of a request: %w", err)
	}
	for name, value := range body {
		known := slices.Contains(rt.must, name) || slices.Contains(rt.may, name)
		if first, ok := fields[path+" "+name]; !known || ok && s.version.before(first) {
			return nil, fmt.Errorf("An error occurred when deserializing the json body of a request: unknown field `%s`", name)
		}
		if value == nil {
			return nil, fmt.Errorf("null for %s", name)
		}
	}
	for _, name := range rt.must {
		if _, ok := body[name]; !ok {
			return nil, fmt.Errorf("An error occurred when deserializing the json body of a request: missing field `%s`", name)
		}
	}
	return body, nil
}

// serveVsock is the host's end of the guest's vsock.
func (s *standIn) serveVsock(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go s.vsock(conn.(*net.UnixConn))
	}
}

func (s *standIn) vsock(conn *net.UnixConn) {
	defer conn.Close()
	line := make([]byte, 0, 32)
	for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b[0]) {
		if _, err := conn.Read(b); err != nil || len(line) > 31 {
			return
		}
	}
	s.mu.Lock()
	s.guest.asked++
	silent := s.guest.silent > 0 || s.deaf || s.state == statePaused
	if s.guest.silent > 0 {
		s.guest.silent--
	}
	listens := s.guest.listens && string(line) == fmt.Sprintf("CONNECT %d\n", agentPort)
	s.mu.Unlock()
	if silent {
		_, _ = conn.Read(make([]byte, 1)) // until the other side gives up
		return
	}
	if !listens {
		return
	}
	// The guest's first bytes follow at once.
	if _, err := conn.Write([]byte("OK 1073741824\nhello")); err != nil {
		return
	}
	_, _ = io.Copy(conn, conn) // at a half-close both directions end, with what was on its way
}
