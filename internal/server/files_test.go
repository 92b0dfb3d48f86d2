package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bandsox/bandsox"
)

func TestFileHeadersAndRanges(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	for name, content := range map[string]string{"/a.txt": "0123456789", "/evil.html": "<script>", "/e \"ü\n.bin": "x"} {
		if err := sb.WriteFile(t.Context(), name, []byte(content), 0); err != nil {
			t.Fatal(err)
		}
	}
	const at = "/api/vms/ann/file?path="
	whole := h.do("GET", at+"/a.txt", nil)
	tag := whole.header.Get("ETag")
	if whole.status != 200 || string(whole.body) != "0123456789" || tag == "" || whole.header.Get("Last-Modified") == "" || whole.header.Get("Content-Length") != "10" {
		t.Fatalf("%d %q %v", whole.status, whole.body, whole.header)
	}
	for _, c := range []struct {
		header, value string
		status        int
		body          string
	}{
		{"Range", "bytes=2-4", 206, "234"}, {"Range", "bytes=-3", 206, "789"}, {"Range", "bytes=8-", 206, "89"}, {"Range", "bytes=8-99", 206, "89"},
		{"If-None-Match", tag, 304, ""}, {"If-None-Match", `"other"`, 200, "0123456789"}, {"If-Match", tag, 200, "0123456789"},
	} {
		if r := h.do("GET", at+"/a.txt", nil, c.header, c.value); r.status != c.status || string(r.body) != c.body {
			t.Errorf("%s %s: %d %q", c.header, c.value, r.status, r.body)
		}
	}
	for _, c := range []struct {
		headers []string
		status  int
	}{{[]string{"Range", "bytes=10-"}, 416}, {[]string{"Range", "bytes=x"}, 416}, {[]string{"If-Match", `"other"`}, 412}} {
		if r := h.do("GET", at+"/a.txt", nil, c.headers...); r.status != c.status || r.field("code") == nil || r.field("detail") == nil {
			t.Errorf("%v: %d %s", c.headers, r.status, r.body)
		}
	}
	if r := h.do("GET", at+"/a.txt", nil, "Range", "bytes=2-4", "If-Range", `"other"`); r.status != 200 {
		t.Errorf("a range of another file: %d", r.status)
	}
	if r := h.do("HEAD", at+"/a.txt", nil); r.status != 200 || r.header.Get("Content-Length") != "10" || len(r.body) != 0 {
		t.Errorf("HEAD: %d %v", r.status, r.header)
	}
	// Nothing of a guest's runs under our name.
	for path, want := range map[string]string{"/a.txt&inline=true": "inline", "/a.txt": "attachment", "/evil.html&inline=true": "attachment"} {
		r := h.do("GET", at+path, nil)
		if !strings.HasPrefix(r.header.Get("Content-Disposition"), want+";") || !strings.Contains(r.header.Get("Content-Security-Policy"), "sandbox") ||
			r.header.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(r.header.Get("Content-Type"), "html") {
			t.Errorf("%s: %v", path, r.header)
		}
	}
	odd := h.do("GET", at+"%2Fe%20%22%C3%BC%0A.bin", nil)
	if want := `attachment; filename="e ___.bin"; filename*=UTF-8''e%20%22%C3%BC%0A.bin`; odd.status != 200 || odd.header.Get("Content-Disposition") != want {
		t.Errorf("got %d %q, want %q", odd.status, odd.header.Get("Content-Disposition"), want)
	}
	// What the kernel makes up has no size.
	if r := h.do("GET", at+"/proc/self/status", nil); r.status == 200 && len(r.body) == 0 {
		t.Error("a file of /proc is empty")
	}
	if r := h.do("PUT", at+"/a.txt", "new", "If-None-Match", "*"); r.status != 409 {
		t.Errorf("a new one where there is one: %d %s", r.status, r.body)
	}
	for _, bad := range []string{"", "&mode=9", "&mode=77777", "&offset=1", "&partial=x&offset=-1", "&partial=../x"} {
		path := at + "/b" + bad
		if bad == "" {
			path = "/api/vms/ann/file"
		}
		if r := h.do("PUT", path, "x"); r.status != 400 && r.status != 422 {
			t.Errorf("PUT %s: %d %s", path, r.status, r.body)
		}
	}
}

// TestWriteFileReadsAnyJSON sends the fields in an order in which the content
// has to be put aside, and every kind of escape.
func TestWriteFileReadsAnyJSON(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	long := strings.Repeat(`é\u00e9\ud83d\ude00"\\/`+"\u65e5", 40<<10)
	ascii := strings.ReplaceAll(strings.ReplaceAll(string(must(json.Marshal(long))), "é", `\u00e9`), "\u65e5", `\u65e5`)
	for what, c := range map[string]struct{ body, want string }{
		"content first":  {`{"content":"a\"b{}[],:\n","path":"/f"}`, "a\"b{}[],:\n"},
		"other contents": {`{"x":{"content":"no"},"y":["content"],"content":"yes","path":"/f"}`, "yes"},
		"an escaped key": {`{"c\u006fntent":"yes","path":"/f"}`, "yes"},
		"twice":          {`{"content":"one","path":"/f","content":"two"}`, "two"},
		"long":           {`{"path":"/f","content":` + string(must(json.Marshal(long))) + `}`, long},
		"long, escaped":  {`{"content":` + ascii + `,"path":"/f"}`, long},
		"pairs":          {`{"path":"/f","content":"` + strings.Repeat(`\ud83d\ude00`, 20<<10) + `"}`, strings.Repeat("\U0001F600", 20<<10)},
		"base64":         {`{"path":"/f","encoding":"base64","content":"` + base64.StdEncoding.EncodeToString([]byte(long)) + `"}`, long},
		"empty":          {`{"path":"/f","content":""}`, ""},
	} {
		r := h.do("POST", "/api/vms/ann/write-file", c.body)
		got, err := sb.ReadFile(t.Context(), "/f")
		if r.status != 200 || err != nil || string(got) != c.want {
			t.Errorf("%s: %d %.200s, %d bytes, want %d (%v)", what, r.status, r.body, len(got), len(c.want), err)
		}
	}
	if err := sb.WriteFile(t.Context(), "/f", []byte("old"), 0); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		body   string
		status int
	}{
		"no path": {`{"content":"x"}`, 422}, "no content": {`{"path":"/f"}`, 422}, "null": {`{"path":"/f","content":null}`, 422}, "a number": {`{"path":"/f","content":1}`, 400},
		"cut off": {`{"path":"/f","content":"x`, 400}, "no end": {`{"path":"/f","content":"x"`, 400}, "a bad escape": {`{"path":"/f","content":"\q"}`, 400},
		"a list": {`["content"]`, 400}, "nothing": {``, 400}, "more": {`{"path":"/f","content":"x"} x`, 400}, "bad base64": {`{"path":"/f","content":"a","encoding":"base64"}`, 400},
		"an encoding that is none": {`{"path":"/f","content":"a","encoding":"rot13"}`, 400},
	} {
		if r := h.do("POST", "/api/vms/ann/write-file", c.body); r.status != c.status {
			t.Errorf("%s: %d %s, want %d", what, r.status, r.body, c.status)
		}
	}
	if got, err := sb.ReadFile(t.Context(), "/f"); err != nil || string(got) != "old" {
		t.Errorf("what was refused has changed the file: %q %v", got, err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestUploadInAnyOrder sends the file before it is said where to.
func TestUploadInAnyOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for _, fileFirst := range []bool{true, false} {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		file := func() {
			part, _ := form.CreateFormFile("file", "x")
			part.Write(big)
		}
		if fileFirst {
			file()
		}
		form.WriteField("remote_path", "/up")
		if !fileFirst {
			file()
		}
		form.Close()
		r := h.do("POST", "/api/vms/ann/upload", body.Bytes(), "Content-Type", form.FormDataContentType())
		got, err := sb.ReadFile(t.Context(), "/up")
		if r.status != 200 || r.field("path") != "/up" || err != nil || !bytes.Equal(got, big) {
			t.Errorf("file first %v: %d %s, %d bytes, %v", fileFirst, r.status, r.body, len(got), err)
		}
		if err := sb.WriteFile(t.Context(), "/up", []byte("old"), 0); err != nil {
			t.Fatal(err)
		}
		// One that ends before its time changes nothing.
		r = h.do("POST", "/api/vms/ann/upload", body.Bytes()[:body.Len()/2], "Content-Type", form.FormDataContentType())
		if got, _ := sb.ReadFile(t.Context(), "/up"); r.status == 200 || string(got) != "old" {
			t.Errorf("cut off: %d %s, %d bytes", r.status, r.body, len(got))
		}
	}
}

// TestFilesAreNotHeldInMemory moves a file that is larger than what the
// process may grow by, each way.
func TestFilesAreNotHeldInMemory(t *testing.T) {
	size, most := int64(192<<20), uint64(48<<20)
	if testing.Short() {
		size, most = 48<<20, 32<<20
	}
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{Name: "ann"})
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	var peak atomic.Uint64
	look := func() {
		runtime.ReadMemStats(&m)
		peak.Store(max(peak.Load(), m.HeapAlloc))
	}
	send := func(method, path, kind string, body io.Reader) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		resp, err := h.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			b, _ := io.ReadAll(resp.Body)
			t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, b)
		}
		buf, n := make([]byte, 1<<20), 0
		for i := 0; ; i++ {
			k, err := resp.Body.Read(buf)
			if n += k; err != nil {
				break
			}
			if i%64 == 0 {
				look()
			}
		}
		look()
		if got := peak.Load(); got > before+most {
			t.Errorf("%s %s: the heap grew from %d to %d MiB for %d", method, path, before>>20, got>>20, size>>20)
		}
	}
	zeros := func(n int64) io.Reader { return &ticking{r: io.LimitReader(as{}, n), tick: look} }
	send("PUT", "/api/vms/ann/file?path=/big", "application/octet-stream", zeros(size))
	if st, err := sb.Stat(t.Context(), "/big"); err != nil || st.Size != size {
		t.Fatal(st, err)
	}
	send("GET", "/api/vms/ann/file?path=/big", "", nil)
	send("GET", "/api/vms/ann/read-file?path=/big", "", nil)
	send("GET", "/api/vms/ann/tree?path=/big", "", nil)
	send("POST", "/api/vms/ann/write-file", "application/json", io.MultiReader(strings.NewReader(`{"encoding":"base64","content":"`), zeros(size), strings.NewReader(`","path":"/big"}`)))
	send("POST", "/api/vms/ann/upload", "multipart/form-data; boundary=b", io.MultiReader(
		strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n"), zeros(size),
		strings.NewReader("\r\n--b\r\nContent-Disposition: form-data; name=\"remote_path\"\r\n\r\n/big\r\n--b--\r\n")))
	left, err := filepath.Glob(h.m.Storage() + "/scratch/*/file-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left in the scratch directory: %v %v", left, err)
	}
}

// as is nothing but the letter A, which is base64 too.
type as struct{}

func (as) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

// ticking calls tick every now and then.
type ticking struct {
	r    io.Reader
	n    int
	tick func()
}

func (r *ticking) Read(p []byte) (int, error) {
	if r.n++; r.n%256 == 0 {
		r.tick()
	}
	return r.r.Read(p)
}
