package wire

import "testing"

func TestEveryCodeHasAStatusAndComesBack(t *testing.T) {
	for _, c := range []Code{Invalid, NotFound, Conflict, Unauthorized, Denied, Exhausted, Timeout, Unavailable, Internal} {
		if s := c.Status(); s < 400 || CodeOfStatus(s) != c {
			t.Errorf("%s became %d and then %s", c, s, CodeOfStatus(s))
		}
	}
	for status, want := range map[int]Code{422: Invalid, 413: Invalid, 429: Exhausted, 408: Timeout, 502: Unavailable, 418: Invalid, 599: Internal} {
		if got := CodeOfStatus(status); got != want {
			t.Errorf("%d: got %s, want %s", status, got, want)
		}
	}
}
