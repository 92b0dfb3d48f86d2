package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// download is Fetch over HTTP: attempts until one ends the file, or o.Attempts
// in a row got no further than one before them.
func download(ctx context.Context, u *url.URL, path string, o FetchOptions) error {
	p, err := openPart(ctx, path, u.String(), o.SHA256 != "")
	if err != nil {
		return err
	}
	defer p.close()
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
		case <-time.After(250 * time.Millisecond << min(barren, 5)):
		}
	}
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
	tick := func() { stall.Reset(o.Stall) }
	if resumed {
		if err := p.replay(ctx, m, have, tick); err != nil {
			return true, 0, err
		}
	}
	err = pump(ctx, p.f, &ticking{resp.Body, tick}, m)
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
