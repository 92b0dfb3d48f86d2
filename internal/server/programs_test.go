package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// TestExecOverHTTP is what the reference's route answers, and what ours does more.
func TestExecOverHTTP(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	if err := sb.Mkdir(t.Context(), "/a/x/y", bandsox.MkdirOptions{Parents: true}); err != nil {
		t.Fatal(err)
	}
	type any2 = map[string]any
	for what, c := range map[string]struct {
		body   any2
		status int
		want   string
	}{
		"command":    {any2{"command": "echo out; echo err >&2; exit 3", "timeout": nil, "unheard": "of"}, 200, `{"exit_code":3,"stdout":"out\n","stderr":"err\n"}`},
		"arguments":  {any2{"args": []string{"printf", "%s", "$x"}, "env": nil}, 200, `{"exit_code":0,"stdout":"$x","stderr":""}`},
		"everything": {any2{"command": "cat; echo $A$B; pwd | tail -c4; id -u", "env": any2{"A": "1", "B": "2"}, "cwd": "/a/x/y", "user": "0", "stdin": "in\n"}, 200, `{"exit_code":0,"stdout":"in\n12\nx/y\n0\n","stderr":""}`},
		"env list":   {any2{"command": "echo $A", "env": []string{"A=1", "A=2"}}, 200, `{"exit_code":0,"stdout":"2\n","stderr":""}`},
		"not text":   {any2{"command": `printf 'a\377'`}, 200, `{"exit_code":0,"stdout":"a` + "\uFFFD" + `","stderr":""}`},
		"signal":     {any2{"command": "kill -9 $$"}, 200, `{"exit_code":137,"stdout":"","stderr":"","signal":9}`},
		"timeout":    {any2{"command": "sleep 1000", "timeout": 0.2}, 504, `"Command timed out"`},
		"nothing":    {any2{}, 422, `"missing"`},
		"both":       {any2{"command": "a", "args": []string{"b"}}, 400, `"invalid"`},
		"negative":   {any2{"command": "a", "timeout": -1}, 422, `"invalid"`},
		"bad env":    {any2{"command": "a", "env": "A=1"}, 422, `"invalid"`},
		"no place":   {any2{"command": "pwd", "cwd": "/none"}, 404, `"not_found"`},
		"no program": {any2{"args": []string{"no-such-program"}}, 404, `"not_found"`},
		"too much":   {any2{"command": "head -c 70000000 /dev/zero", "timeout": 600}, 413, `"exhausted"`},
	} {
		got := h.do("POST", "/api/vms/ann/exec", c.body)
		if got.status != c.status || !strings.Contains(string(got.body), c.want) {
			t.Errorf("%s: %d %.300s, want %d %s", what, got.status, got.body, c.status, c.want)
		}
	}
	got := h.do("POST", "/api/vms/ann/exec", map[string]any{"command": `echo a; printf '\303'; sleep 0.05; printf '\274'; printf '\377' >&2; exit 2`}, "Accept", "text/event-stream")
	text := string(got.body)
	// On a busy machine all of it is there when it is first looked at.
	out := ""
	for _, m := range regexp.MustCompile(`event: stdout\ndata: \{"data":"([^"]*)"\}`).FindAllStringSubmatch(text, -1) {
		out += m[1]
	}
	if out != `a\nü` {
		t.Errorf("events: output %q in %s", out, text)
	}
	for _, want := range []string{"event: started\ndata: {\"process\":",
		"event: stderr\ndata: {\"data\":\"/w==\",\"encoding\":\"base64\"}", "event: exit\ndata: {\"exit_code\":2"} {
		if !strings.Contains(text, want) {
			t.Errorf("events: no %q in %s", want, text)
		}
	}
	got = h.do("POST", "/api/vms/ann/exec", map[string]any{"command": `printf 'a\377'; sleep 0.05; printf b >&2; exit 2`}, "Accept", api.FramesType)
	frames := string(got.body)
	for _, want := range []string{"{\"type\":\"started\",\"process\":", string(api.AppendFrame(nil, api.FrameStdout, []byte("a\xff"))),
		string(api.AppendFrame(nil, api.FrameStderr, []byte("b"))), "{\"type\":\"exit\",\"exit_code\":2"} {
		if at := strings.Index(frames, want); at < 0 {
			t.Errorf("frames: no %q in %q", want, got.body)
		} else {
			frames = frames[at:]
		}
	}
	if got := h.do("POST", "/api/vms/ann/exec", map[string]any{"command": "exit 1", "timeout": -1}, "Accept", api.FramesType); got.status != 400 {
		t.Errorf("a negative timeout: %d %s", got.status, got.body)
	}
	py := h.do("POST", "/api/vms/ann/exec-python", map[string]any{"code": "x", "packages": []string{"numpy"}, "cleanup_venv": true})
	if py.status != 200 || py.field("success") != false || py.field("code") != "unavailable" {
		t.Errorf("python: %d %s", py.status, py.body)
	}
	if err := sb.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"exec", "exec-python"} {
		for _, ref := range []string{"ann", "nobody"} {
			if got := h.do("POST", "/api/vms/"+ref+"/"+path, map[string]any{"command": "true", "code": "x"}); got.status != 404 {
				t.Errorf("%s of %s: %d %s", path, ref, got.status, got.body)
			}
		}
	}
	if got := h.do("GET", "/api/vms/ann/terminal", nil); got.status != http.StatusUpgradeRequired {
		t.Errorf("no WebSocket: %d %s", got.status, got.body)
	}
}

// dial opens a WebSocket of the house.
func (h *house) dial(path string) *websocket.Conn {
	h.t.Helper()
	c, _, err := websocket.Dial(h.t.Context(), h.URL+path, &websocket.DialOptions{Subprotocols: []string{"bandsox.terminal"}})
	if err != nil {
		h.t.Fatal(err)
	}
	c.SetReadLimit(16 << 20)
	h.t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func say(t *testing.T, c *websocket.Conn, frame string) {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		t.Fatal(err)
	}
}

func keys(s string) string {
	return fmt.Sprintf(`{"type":"input","data":%q}`, base64.StdEncoding.EncodeToString([]byte(s)))
}

// rest reads to the end: all that came, and the code it was closed with.
func rest(t *testing.T, c *websocket.Conn) (string, websocket.StatusCode) {
	t.Helper()
	var all strings.Builder
	for {
		_, b, err := c.Read(t.Context())
		if err != nil {
			return all.String(), websocket.CloseStatus(err)
		}
		all.Write(b)
	}
}

// sees reads until the text has come.
func sees(t *testing.T, c *websocket.Conn, want string) string {
	t.Helper()
	var all strings.Builder
	for !strings.Contains(all.String(), want) {
		_, b, err := c.Read(t.Context())
		if err != nil {
			t.Fatalf("no %q in %q: %v", want, all.String(), err)
		}
		all.Write(b)
	}
	return all.String()
}

func TestExecStream(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	for first, want := range map[string]struct {
		says string
		code websocket.StatusCode
	}{
		`{"command":"printf '\\303'; sleep 0.05; printf '\\274'; exit 3","timeout":null}`: {`{"type":"stdout","data":"ü"}{"type":"exit","exit_code":3`, 1000},
		`{"command":"echo x >&2"}`:                          {`{"type":"stderr","data":"x\n"}{"type":"exit","exit_code":0`, 1000},
		`{"command":"sleep 1000","timeout":0}`:              {`{"type":"error","error":"Command timed out"`, 1000},
		`{"command":"a","timeout":"x"}`:                     {`"error":"invalid timeout"`, 4000},
		`{"timeout":1}`:                                     {`"error":"command required"`, 4000},
		`nonsense`:                                          {`"error":"invalid start"`, 4000},
		`{"args":["none-such"],"timeout":1}`:                {`"code":"not_found"`, 4000},
		`{"command":"a","on_disconnect":"x"}`:               {`"code":"invalid"`, 4000},
		`{"command":"stty size","tty":{"cols":0}}`:          {`"code":"invalid"`, 4000},
		`{"command":"stty size","tty":{"cols":9,"rows":8}}`: {`8 9`, 1000},
	} {
		c := h.dial("/api/vms/ann/exec-stream")
		say(t, c, first)
		if got, code := rest(t, c); !strings.Contains(got, want.says) || code != want.code {
			t.Errorf("%s: %s, closed with %d", first, got, code)
		}
	}
	c := h.dial("/api/vms/ann/exec-stream")
	say(t, c, `{"command":"read x; echo got $x","stdin":true}`)
	say(t, c, `{"type":"signal","signal":"nonsense"}`)
	say(t, c, keys("one\n"))
	if got, _ := rest(t, c); !strings.Contains(got, `{"type":"refused"`) || !strings.Contains(got, `"got one\n"`) {
		t.Errorf("with input: %s", got)
	}
	if got, code := rest(t, h.dial("/api/vms/nobody/exec-stream")); code != 4004 || !strings.Contains(got, "VM not found") {
		t.Errorf("nobody: %s, closed with %d", got, code)
	}

	// Who leaves kills, or doesn't.
	for _, leave := range []string{"kill", "keep"} {
		c := h.dial("/api/vms/ann/exec-stream")
		say(t, c, `{"command":"echo ready; read x; echo got $x","stdin":true,"on_disconnect":"`+leave+`"}`)
		sees(t, c, "ready")
		_ = c.CloseNow()
		list, err := sb.Processes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p, err := sb.Process(t.Context(), list[len(list)-1].ID)
		if err != nil {
			t.Fatal(err)
		}
		if leave == "keep" {
			if err := p.Write(t.Context(), []byte("more\n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Wait(t.Context()); (err == nil) != (leave == "keep") {
			t.Errorf("%s: %v", leave, err)
		}
	}
	if err := sb.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	c = h.dial("/api/vms/ann/exec-stream")
	say(t, c, `{"command":"true"}`)
	if _, code := rest(t, c); code != 4004 {
		t.Errorf("stopped: closed with %d", code)
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	c := h.dial("/api/vms/ann/terminal?cols=70&rows=30")
	if c.Subprotocol() != "bandsox.terminal" {
		t.Errorf("protocol %q", c.Subprotocol())
	}
	say(t, c, "no JSON")
	say(t, c, `{}`)
	say(t, c, keys("stty -echo; stty size; printf '\\303\\274\\n'\n"))
	sees(t, c, "30 70\r\nü\r\n")
	say(t, c, `{"type":"resize","cols":71,"rows":31}`)
	say(t, c, keys("stty size; exit 3\n"))
	if got, code := rest(t, c); code != 1000 || !strings.Contains(got, "31 71") || strings.Contains(got, "exit_code") {
		t.Errorf("%q, closed with %d", got, code)
	}
	c = h.dial("/api/vms/ann/terminal?encoding=base64&command=printf+hello")
	if got, _ := rest(t, c); got != base64.StdEncoding.EncodeToString([]byte("hello")) {
		t.Errorf("base64: %q", got)
	}

	// What is kept is attached to again, by two.
	c = h.dial("/api/vms/ann/terminal?encoding=binary&hello=true&keep=true")
	_, b, err := c.Read(t.Context())
	var hello struct {
		Type, Process string
		Offset        int64
	}
	if err != nil || json.Unmarshal(b, &hello) != nil || hello.Type != "hello" || hello.Process == "" {
		t.Fatalf("%s %v", b, err)
	}
	if err := c.Write(t.Context(), websocket.MessageBinary, []byte("PS1=; stty -echo; echo; echo before\n")); err != nil {
		t.Fatal(err)
	}
	sees(t, c, "\nbefore\r\n")
	_ = c.CloseNow()
	again := "/api/vms/ann/terminal?hello=true&encoding=binary&process=" + hello.Process
	one, two := h.dial(again+"&offset=0"), h.dial(again)
	sees(t, one, "\nbefore\r\n")
	sees(t, two, "\nbefore\r\n")
	say(t, two, keys("exit 4\n"))
	for _, c := range []*websocket.Conn{one, two} {
		if got, code := rest(t, c); code != 1000 || !strings.Contains(got, `{"type":"exit","exit_code":4`) {
			t.Errorf("%q, closed with %d", got, code)
		}
	}

	// What isn't kept is killed.
	c = h.dial("/api/vms/ann/terminal?hello=true")
	_, b, _ = c.Read(t.Context())
	_ = json.Unmarshal(b, &hello)
	_ = c.CloseNow()
	p, err := sb.Process(t.Context(), hello.Process)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "signal 9") {
		t.Errorf("left: %v", err)
	}
	for path, want := range map[string]websocket.StatusCode{
		"/api/vms/nobody/terminal": 4004, "/api/vms/ann/terminal?process=none": 4004, "/api/vms/ann/terminal?user=nobody-of-this-name": 4000,
	} {
		if _, code := rest(t, h.dial(path)); code != want {
			t.Errorf("%s: closed with %d", path, code)
		}
	}
	if got := h.do("GET", "/api/vms/ann/terminal?cols=x", nil, "Connection", "Upgrade", "Upgrade", "websocket"); got.status != 400 {
		t.Errorf("cols=x: %d", got.status)
	}
	if err := sb.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, code := rest(t, h.dial("/api/vms/ann/terminal")); code != 4004 {
		t.Errorf("stopped: closed with %d", code)
	}
}

func TestSocketsNeedKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.create(bandsox.CreateOptions{Name: "ann"})
	made, err := h.keys.Init(t.Context(), "a password")
	if err != nil {
		t.Fatal(err)
	}
	if _, code := rest(t, h.dial("/api/vms/ann/terminal")); code != 4001 {
		t.Errorf("closed with %d", code)
	}
	if got, code := rest(t, h.dial("/api/vms/ann/terminal?command=echo+hello&token="+made.Key)); code != 1000 || got != "hello\r\n" {
		t.Errorf("with a key: %q, closed with %d", got, code)
	}
}

func TestProcessOutput(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.create(bandsox.CreateOptions{Name: "ann"})
	made := h.do("POST", "/api/vms/ann/processes", map[string]any{"command": `printf 'a\303'; sleep 0.05; printf '\274b'; read x; echo got $x; exit 2`, "stdin": true})
	id, _ := made.field("id").(string)
	at := "/api/vms/ann/processes/" + id
	if made.status != 200 || id == "" || made.field("pid") == 0.0 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	for h.do("GET", at, nil).field("output") != 4.0 {
		time.Sleep(5 * time.Millisecond)
	}
	if got := h.do("GET", at+"/output?offset=1", nil); string(got.body) != "üb" || got.header.Get("Bandsox-Offset") != "1" || got.header.Get("Content-Length") != "3" {
		t.Errorf("so far: %q %v", got.body, got.header)
	}
	for _, step := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/wait?timeout=0.01", "", 504},
		{"POST", "/resize", `{"cols":1,"rows":1}`, 409},
		{"POST", "/resize", `{"cols":0,"rows":1}`, 400},
		{"POST", "/signal", `{"signal":"SIGNONE"}`, 400},
		{"POST", "/signal", `{"signal":"CONT"}`, 200},
		{"POST", "/stdin?close=true", "more\n", 200},
		{"GET", "/wait", "", 200},
		{"GET", "x", "", 404},
		{"GET", "/output?offset=x", "", 400},
		{"GET", "/output?offset=1000", "", 400},
	} {
		var body any
		if step.body != "" {
			body = step.body
		}
		if got := h.do(step.method, at+step.path, body, "Content-Type", "application/json"); got.status != step.status && (step.status != 400 || got.status != 422) {
			t.Errorf("%s %s: %d %s", step.method, step.path, got.status, got.body)
		}
	}
	if got := h.do("GET", at+"/output?follow=true", nil); string(got.body) != "aübgot more\n" {
		t.Errorf("all of it: %q", got.body)
	}
	got := string(h.do("GET", at+"/output", nil, "Accept", "text/event-stream", "Last-Event-ID", "3").body)
	if !strings.HasPrefix(got, "id: 13\nevent: stdout\ndata: {\"data\":\"bgot more\\n\"}\n") || !strings.Contains(got, "event: exit\ndata: {\"exit_code\":2") {
		t.Errorf("events: %q", got)
	}
	if got := h.do("DELETE", at, nil); got.status != 200 && got.status != 409 {
		t.Errorf("kill of an ended one: %d %s", got.status, got.body)
	}
}

// TestExecCost tells what HTTP adds to the library's exec. It asserts nothing.
func TestExecCost(t *testing.T) {
	if os.Getenv("BANDSOX_COST") == "" {
		t.Skip("set BANDSOX_COST to have it measured")
	}
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	var near, far []time.Duration
	for range 300 {
		begin := time.Now()
		if _, err := sb.Command("true").Output(t.Context()); err != nil {
			t.Fatal(err)
		}
		near = append(near, time.Since(begin))
		begin = time.Now()
		if got := h.do("POST", "/api/vms/ann/exec", `{"args":["true"]}`); got.status != 200 {
			t.Fatal(string(got.body))
		}
		far = append(far, time.Since(begin))
	}
	for _, l := range [][]time.Duration{near, far} {
		sort.Slice(l, func(i, j int) bool { return l[i] < l[j] })
		t.Log("p50", l[len(l)/2], "p95", l[len(l)*95/100])
	}
}

// TestTerminalLingers: a shell that was left is hung up after a while, and not
// while a job has its terminal, nor while somebody looks.
func TestTerminalLingers(t *testing.T) {
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	const path = "/api/vms/ann/terminal?encoding=binary&hello=true&keep=true&linger=1"
	idle, busy, watched := h.dial(path), h.dial(path), h.dial(path)
	say(t, busy, keys("stty -echo; echo; echo begun; cat; echo over\n"))
	sees(t, busy, "\nbegun\r\n")
	list, err := sb.Processes(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%v %v", list, err)
	}
	_, _ = idle.CloseNow(), busy.CloseNow()
	for { // the idle one ends
		list, err = sb.Processes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(list, func(p bandsox.ProcessInfo) bool { return p.Exit != nil }) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(3 * time.Second) // the others had as long, and longer
	if list, err = sb.Processes(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ended []string
	for i, p := range list {
		if p.Exit != nil {
			ended = append(ended, fmt.Sprint(i, p.Exit.Signal, p.Viewers))
		}
	}
	if len(ended) != 1 {
		t.Errorf("ended: %v of %v", ended, list)
	}
	say(t, watched, keys("exit 3\n"))
	if _, code := rest(t, watched); code != 1000 {
		t.Errorf("the watched one: closed with %d", code)
	}
	if r := h.do("GET", "/api/vms/ann/terminal?linger=1", nil); r.status != 422 && r.status != 400 {
		t.Errorf("linger without keep: %d", r.status)
	}
}
