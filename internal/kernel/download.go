package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// part is an unfinished download: the bytes in path.part, and what its server
// said of them in path.part.json. Without a validator it can't be gone on with.
type part struct {
	f    *os.File
	path string // of the finished file
	note partNote
}

type partNote struct {
	URL       string `json:"url"`
	Validator string `json:"validator"` // a strong ETag, else Last-Modified
	Total     int64  `json:"total"`
	Boot      string `json:"boot"` // after a power failure unsynced bytes can't be trusted
}

// bootID changes with every start of the host; "" where there is none.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// openPart takes over what an earlier download to path left, if it is of use.
// summed says that a sum will find out bytes that a power failure ate.
func openPart(ctx context.Context, path, rawURL string, summed bool) (*part, error) {
	f, err := lock(ctx, path+".part")
	if err != nil {
		return nil, err
	}
	p := &part{f: f, path: path}
	b, err := os.ReadFile(path + ".part.json")
	if err == nil && json.Unmarshal(b, &p.note) == nil && p.note.URL == rawURL && (summed || p.note.Boot == bootID()) {
		return p, nil
	}
	p.note = partNote{URL: rawURL}
	return p, nil
}

// begin forgets the bytes that are there and remembers what will follow.
func (p *part) begin(validator string, total int64) error {
	p.note.Validator, p.note.Total, p.note.Boot = validator, total, bootID()
	// The note of the old bytes must be gone before the first new one is there.
	if err := os.Remove(p.path + ".part.json"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if validator == "" {
		return nil
	}
	b, err := json.Marshal(p.note)
	if err != nil {
		return err
	}
	return writeAtomic(p.path+".part.json", 0o644, func(f *os.File) error { _, err := f.Write(b); return err })
}

func (p *part) discard() {
	os.Remove(p.path + ".part.json")
	os.Remove(p.path + ".part")
}

// publish gives the finished file its name.
func (p *part) publish() error {
	if err := p.f.Sync(); err != nil {
		return writeError{err}
	}
	if err := os.Rename(p.path+".part", p.path); err != nil {
		return writeError{err}
	}
	os.Remove(p.path + ".part.json")
	return syncDir(filepath.Dir(p.path))
}

// download is Fetch over HTTP: attempts until one ends the file, or o.Attempts
// in a row got no further than one before them.
func download(ctx context.Context, u *url.URL, path string, o FetchOptions) error {
	p, err := openPart(ctx, path, u.String(), o.SHA256 != "")
	if err != nil {
		return err
	}
	defer p.f.Close()
	cleanRetry := true // one more try from the start when resumed bytes don't add up
	for barren, furthest := 0, int64(0); ; {
		resumed, reached, err := attempt(ctx, u, p, o)
		var se *statusError
		var we writeError
		switch {
		case err == nil:
			return p.publish()
		case ctx.Err() != nil:
			return ctx.Err() // the part stays, to go on from
		case errors.As(err, &we):
			p.discard() // a full disk shouldn't stay full of half a file
			return err
		case isWire(err): // wrong sum, too big
			p.discard()
			if resumed && cleanRetry && wire.CodeOf(err) == wire.Invalid {
				cleanRetry = false
				if err := p.reopen(ctx); err != nil {
					return err
				}
				continue
			}
			return err
		case errors.As(err, &se) && !se.temporary():
			p.discard()
			return se.wire()
		}
		if barren++; reached > furthest {
			barren, furthest = 0, reached
		}
		if barren >= o.Attempts {
			return unreachable(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(250*time.Millisecond<<barren, 8*time.Second)):
		}
	}
}

func (p *part) reopen(ctx context.Context) error {
	p.f.Close()
	f, err := lock(ctx, p.path+".part")
	if err != nil {
		return err
	}
	p.f, p.note = f, partNote{URL: p.note.URL}
	return nil
}

// attempt asks once and writes what comes. It reports whether it went on from
// earlier bytes, and how many there are now.
func attempt(ctx context.Context, u *url.URL, p *part, o FetchOptions) (resumed bool, reached int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(o.Stall, func() { cancel(fmt.Errorf("no byte for %v", o.Stall)) })
	defer stall.Stop()
	defer func() {
		if err != nil && ctx.Err() != nil && context.Cause(ctx) != ctx.Err() {
			err = context.Cause(ctx)
		}
	}()

	req, have, err := request(ctx, u, p)
	if err != nil {
		return false, 0, err
	}
	resp, err := client(o.Client).Do(req)
	if err != nil {
		return false, 0, err
	}
	defer resp.Body.Close()
	total, resumed, err := answer(resp, p, have)
	if err != nil {
		return resumed, 0, err
	}
	if total > o.MaxBytes {
		return resumed, 0, tooBig(total, o.MaxBytes)
	}
	m := newMeter(o, total)
	if resumed {
		if err := p.replay(ctx, m, have); err != nil {
			return true, 0, err
		}
	}
	err = pump(ctx, p.f, &ticking{resp.Body, func() { stall.Reset(o.Stall) }}, m)
	if err == nil && total > 0 && m.done != total {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = m.finish()
	}
	return resumed, m.done, err
}

// request asks for what is missing, and only of the file that was begun.
func request(ctx context.Context, u *url.URL, p *part) (*http.Request, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("User-Agent", "bandsox")
	req.Header.Set("Accept-Encoding", "identity") // ranges and sums are of the bytes as they are
	have, err := p.f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, writeError{err}
	}
	if have > 0 && p.note.Validator != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", p.note.Validator)
		return req, have, nil
	}
	return req, 0, nil
}

// answer reads the head of a response: whether its body goes on from byte
// have or starts anew, and how long the whole file is (0 = not said).
func answer(resp *http.Response, p *part, have int64) (total int64, resumed bool, err error) {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		start, all, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if have > 0 && ok && start == have && (p.note.Total <= 0 || all == p.note.Total) && validator(resp) == p.note.Validator {
			return all, true, nil
		}
		// Not the rest of what we have: the next attempt asks for all of it.
		if err := p.begin("", 0); err != nil {
			return 0, false, writeError{err}
		}
		return 0, have > 0, errors.New("the server sent another part than asked for")
	case http.StatusOK:
		if err := p.begin(validator(resp), resp.ContentLength); err != nil {
			return 0, false, writeError{err}
		}
		return max(resp.ContentLength, 0), false, nil
	case http.StatusRequestedRangeNotSatisfiable:
		if err := p.begin("", 0); err != nil {
			return 0, false, writeError{err}
		}
		return 0, true, errors.New("the server has no more of the file than we do, and it isn't whole")
	}
	return 0, false, &statusError{resp.StatusCode, resp.Status}
}

// replay sums the bytes of earlier attempts.
func (p *part) replay(ctx context.Context, m *meter, have int64) error {
	if m.sum == nil {
		m.done = have
		return nil
	}
	if err := pump(ctx, io.Discard, io.NewSectionReader(p.f, 0, have), m); err != nil {
		return writeError{err}
	}
	return nil
}

// validator is what tells one version of a file from another. A weak ETag
// doesn't promise equal bytes, so it is as good as none.
func validator(resp *http.Response) string {
	if e := resp.Header.Get("ETag"); e != "" && !strings.HasPrefix(e, "W/") {
		return e
	}
	return resp.Header.Get("Last-Modified")
}

// parseContentRange reads "bytes 7-9/10".
func parseContentRange(s string) (start, total int64, ok bool) {
	s, isBytes := strings.CutPrefix(s, "bytes ")
	span, all, hasAll := strings.Cut(s, "/")
	first, last, hasLast := strings.Cut(span, "-")
	if !isBytes || !hasAll || !hasLast {
		return 0, 0, false
	}
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	total, err3 := strconv.ParseInt(all, 10, 64)
	// A range that stops early would end the file early.
	return start, total, err1 == nil && err2 == nil && err3 == nil && start >= 0 && end == total-1 && start < total
}

// client is c, but never led from https to http.
func client(c *http.Client) *http.Client {
	own := *c
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("redirected ten times")
		}
		if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return errors.New("redirected from https to " + req.URL.Scheme)
		}
		return nil
	}
	return &own
}

// ticking calls tick for every read that brings bytes.
type ticking struct {
	r    io.Reader
	tick func()
}

func (t *ticking) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n > 0 {
		t.tick()
	}
	return n, err
}

type statusError struct {
	code   int
	status string
}

func (e *statusError) Error() string { return "the server answered " + e.status }

func (e *statusError) temporary() bool {
	return e.code >= 500 || e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout
}

func (e *statusError) wire() error {
	code := wire.Unavailable
	switch e.code {
	case http.StatusNotFound, http.StatusGone:
		code = wire.NotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		code = wire.Denied
	}
	return wire.Errorf(code, "%s", e.Error())
}

func isWire(err error) bool {
	var we *wire.Error
	return errors.As(err, &we)
}

// unreachable drops the URL that net/http puts into its errors: it may hold a
// secret, and the caller names it anyway.
func unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return wire.Errorf(wire.Unavailable, "%w", err)
}
