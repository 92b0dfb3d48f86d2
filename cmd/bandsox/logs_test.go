package main

import "testing"

// What follows is printed once, also when the log has lost its beginning.
func TestAdded(t *testing.T) {
	long := ""
	for range 50 {
		long += "the same line again and again\n"
	}
	for _, c := range []struct{ seen, now, want string }{
		{"", "", ""},
		{"", "a\n", "a\n"},
		{"a\n", "a\n", ""},
		{"a\n", "a\nb\n", "b\n"},
		{"a\nb\n", "b\nc\n", "b\nc\n"}, // too short to tell from a new log
		{long + "one\n", long[300:] + "one\ntwo\n", "two\n"},
		{long, "another boot\n", "another boot\n"},
		{long, "", ""},
	} {
		if got := string(added([]byte(c.seen), []byte(c.now))); got != c.want {
			t.Errorf("after %.20q comes %.20q: %q, want %q", c.seen, c.now, got, c.want)
		}
	}
}
